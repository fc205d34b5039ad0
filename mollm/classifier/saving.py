"""Save a tuned encoder for use without mollm."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from torch import nn

from mollm.classifier.encoder import Encoder
from mollm.classifier.layers import layers_of
from mollm.classifier.top import Top
from mollm.errors import NotFittedError


def save(top: Top, encoder: Encoder, directory: Path, labels: Sequence[str], facts: Mapping[str, object]) -> None:
    """Write the tuned encoder as an ordinary `save_pretrained` directory, with its head and a model card.

    `AutoModel` and `AutoTokenizer` load it; `head.safetensors` holds `weight` (C, D) and `bias` (C,) for the mean of
    the last hidden states over a text's tokens. `facts` (data, scores) go into the card. The directory is complete when
    it gets its name. Raises NotFittedError.
    """
    from safetensors.torch import save_file

    if top.upper_ is None:
        raise NotFittedError("The classifier has not been fitted: call fit first.")
    tokenizer, model = encoder.load()
    whole = with_upper(model, top.upper_)
    whole.config.id2label = dict(enumerate(labels))
    whole.config.label2id = {label: c for c, label in enumerate(labels)}
    part = directory.with_name(directory.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    whole.save_pretrained(part)
    tokenizer.save_pretrained(part)
    head = {"weight": top.head_.weight.detach().cpu().contiguous(), "bias": top.head_.bias.detach().cpu()}
    save_file(head, part / "head.safetensors")
    (part / "README.md").write_text(CARD.format(labels=", ".join(labels), facts=listed(facts)), encoding="utf-8")
    shutil.rmtree(directory, ignore_errors=True)
    part.replace(directory)


def with_upper(model: nn.Module, upper: nn.Module) -> nn.Module:
    """A copy of the encoder with the tuned upper layers in place of its own."""
    whole = copy.deepcopy(model)
    layers = layers_of(whole)[2]
    inside = next(name for name, module in whole.named_modules() if module is layers)
    tuned = upper.get_submodule(inside)
    for layer, learned in zip(list(layers)[len(layers) - len(tuned) :], tuned, strict=True):
        layer.load_state_dict(learned.state_dict())
    beside = {name: value for name, value in upper.state_dict().items() if not name.startswith(f"{inside}.")}
    whole.load_state_dict(beside, strict=False)  # such as a norm above the layers; no frozen layer is in it
    return whole.cpu()


def listed(facts: Mapping[str, object]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


# The model card, README.md in the directory.
CARD = """---
library_name: transformers
pipeline_tag: text-classification
---
# A text classifier trained by mollm

Labels, in order: {labels}.

{facts}

The logits are `head.weight @ mean + head.bias`, where `mean` is the mean of the encoder's last hidden states over the
text's own tokens. In mollm the panel's log-posterior is added to them; without it, expect the scores of the text alone.
"""
