"""Calibrated probabilities of the classifier in this directory. Needs torch and transformers.

python predict.py < texts.txt      # a text a line; prints a JSON object a line
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

HERE = Path(__file__).resolve().parent
BATCH = 32


def predict(texts: Sequence[str], directory: Path = HERE) -> list[dict[str, float]]:
    """The probability of each label, for each text."""
    tokenizer = AutoTokenizer.from_pretrained(directory)
    model = AutoModelForSequenceClassification.from_pretrained(directory).eval()
    found = []
    for start in range(0, len(texts), BATCH):
        batch = tokenizer(list(texts[start : start + BATCH]), padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            probs = model(**batch).logits.softmax(dim=1)
        found += [{model.config.id2label[c]: float(p) for c, p in enumerate(row)} for row in probs]
    return found


if __name__ == "__main__":
    lines = [line.rstrip("\n") for line in sys.stdin]
    for text, row in zip(lines, predict(lines), strict=True):
        found = {"text": text, "label": max(row, key=lambda label: row[label]), "probabilities": row}
        sys.stdout.write(json.dumps(found) + "\n")
