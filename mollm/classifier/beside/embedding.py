"""Calibrated probabilities of the classifier in this directory. Needs torch, transformers and safetensors.

    python predict.py < texts.txt      # a text a line; prints a JSON object a line

The embedding joins the layers from the middle to the last: of each the mean over the text's own tokens, at
length 1. `head.safetensors` holds `weight` (C, D) and `bias` (C,) of the logits.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from transformers import AutoModel, AutoTokenizer

HERE = Path(__file__).resolve().parent
BATCH = 32


def embed(model: Any, batch: Any) -> torch.Tensor:
    """(B, D) of length 1."""
    hidden = model(**batch, output_hidden_states=True).hidden_states
    mask = batch["attention_mask"][..., None].to(hidden[-1].dtype)
    upper = hidden[len(hidden) // 2 :]
    means = [(layer * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1) for layer in upper]
    return torch.cat([torch.nn.functional.normalize(mean, dim=1) for mean in means], dim=1) / len(means) ** 0.5


def predict(texts: Sequence[str], directory: Path = HERE) -> list[dict[str, float]]:
    """The probability of each label, for each text."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModel.from_pretrained(directory).eval()
    head = load_file(directory / "head.safetensors")
    found = []
    for start in range(0, len(texts), BATCH):
        batch = tokenizer(list(texts[start : start + BATCH]), padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            probs = (embed(model, batch) @ head["weight"].T + head["bias"]).softmax(dim=1)
        found += [{model.config.id2label[c]: float(p) for c, p in enumerate(row)} for row in probs]
    return found


if __name__ == "__main__":
    lines = [line.rstrip("\n") for line in sys.stdin]
    for text, row in zip(lines, predict(lines), strict=True):
        found = {"text": text, "label": max(row, key=lambda label: row[label]), "probabilities": row}
        sys.stdout.write(json.dumps(found) + "\n")
