"""A classifier on mean-pooled states in an architecture that transformers knows: encoder, pooling, linear head.

Sequence classifiers of BERT and RoBERTa read the first token alone. One more layer of the same kind makes a mean of it:
with queries and keys of zero every token attends to all of its text equally, so that attention is the mean over the
text's own tokens. Large values make the residual vanish beside it, and the layer's norm then gives

    x = (m - mean(m)) / sd(m),    m = mean over tokens of the last kept layer's states

The pooler's tanh is kept in its linear part by small weights, which the head's weights undo. The head is fitted on what
this model itself puts out, so that no step of this is an approximation of what the head has seen.

Import this module only if torch is installed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from mollm.classifier.encoder import MAX_TOKENS
from mollm.errors import ModelFileError
from mollm.records import FloatArray

CLASSES = {"bert": "BertForSequenceClassification", "roberta": "RobertaForSequenceClassification",
           "xlm-roberta": "XLMRobertaForSequenceClassification"}  # fmt: skip
"""Encoders (`model_type`) whose attention has no part that depends on the place, and whose head is a tanh on the
first token."""
LOUD = 1000.0  # the mean's factor beside the residual: large enough to drown it, small enough for half precision
SOFT = 1e-3  # the pooler's factor: tanh of a thousandth is linear to six digits
BATCH = 64  # texts a forward pass (chosen by hand)


def possible(model: Any) -> bool:
    """Whether an encoder can be cast into a standard sequence classifier."""
    return model.config.model_type in CLASSES and not getattr(model.config, "is_decoder", False)


def cast(model: Any, layer: int, labels: Sequence[str]) -> Any:
    """The encoder up to and with its `layer` (1 is the lowest), the mean's layer, and a head of zeros for `labels`.

    Raises ModelFileError for an encoder of another kind.
    """
    import transformers

    if not possible(model):
        raise ModelFileError(f"{model.config.model_type} is no encoder that can be written as a standard classifier.")
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = layer + 1
    config.id2label = dict(enumerate(labels))
    config.label2id = {label: c for c, label in enumerate(labels)}
    config.problem_type = "single_label_classification"
    config.hidden_dropout_prob = config.attention_probs_dropout_prob = 0.0
    config._name_or_path = ""
    made = getattr(transformers, CLASSES[config.model_type])(config).float().eval()
    inside = made.base_model
    inside.embeddings.load_state_dict(model.embeddings.state_dict())
    for n in range(layer):
        inside.encoder.layer[n].load_state_dict(model.encoder.layer[n].state_dict())
    _make_mean(inside.encoder.layer[layer])
    first, last = _head(made)
    with torch.no_grad():
        first.weight.copy_(SOFT * torch.eye(config.hidden_size))
        for value in (first.bias, last.weight, last.bias):
            value.zero_()
    return made


def _make_mean(layer: nn.Module) -> None:
    eye = torch.eye(layer.output.dense.weight.shape[0])
    with torch.no_grad():
        for name, value in layer.named_parameters():
            norm = "LayerNorm" in name
            value.fill_(1.0 if norm and name.endswith("weight") else 0.0)
        layer.attention.self.value.weight.copy_(eye)
        layer.attention.output.dense.weight.copy_(LOUD * eye)


def _head(made: Any) -> tuple[nn.Linear, nn.Linear]:
    """The dense layer before the tanh, and the layer that gives the logits."""
    if made.config.model_type == "bert":
        return made.bert.pooler.dense, made.classifier
    return made.classifier.dense, made.classifier.out_proj


def features(
    made: Any, tokenizer: Any, texts: Sequence[str], tell: Callable[[str], None] = lambda _line: None
) -> FloatArray:
    """(N, D): what the head of a cast model sees of each text."""
    _first, last = _head(made)
    seen: list[torch.Tensor] = []
    handle = last.register_forward_pre_hook(lambda _module, args: seen.append(args[0]))
    order = sorted(range(len(texts)), key=lambda n: len(texts[n]))
    out = np.empty((len(texts), made.config.hidden_size))
    try:
        with torch.inference_mode():
            for start in range(0, len(order), BATCH):
                part = order[start : start + BATCH]
                made(**tokens(made, tokenizer, [texts[n] for n in part]))
                out[part] = seen.pop().double().cpu().numpy() / SOFT
                tell(f"read {start + len(part)} of {len(order)} texts")
    finally:
        handle.remove()
    return out


def tokens(made: Any, tokenizer: Any, texts: Sequence[str]) -> Any:
    """A batch as the model takes it; what is longer than the tokenizer's limit is cut."""
    batch = tokenizer(
        list(texts), padding=True, truncation=True, max_length=limit_of(made, tokenizer), return_tensors="pt"
    )
    return batch.to(made.device)


def limit_of(made: Any, tokenizer: Any) -> int:
    """How many tokens of a text are read."""
    room = int(getattr(made.config, "max_position_embeddings", MAX_TOKENS))
    room -= 2 if "roberta" in made.config.model_type else 0  # its places begin behind that of the padding
    return min(MAX_TOKENS, room, int(min(tokenizer.model_max_length, MAX_TOKENS)))


def set_head(made: Any, weight: FloatArray, bias: FloatArray) -> None:
    """Logits = features @ weight (D, C) + bias (C,)."""
    _first, last = _head(made)
    with torch.no_grad():
        last.weight.copy_(torch.from_numpy(weight.T / SOFT))
        last.bias.copy_(torch.from_numpy(bias))


def save_tokenizer(tokenizer: Any, model: Any, directory: Path) -> None:
    """The tokenizer's files; whoever loads it cuts texts where the head was fitted."""
    own = copy.deepcopy(tokenizer)
    own.model_max_length = limit_of(model, tokenizer)
    own.save_pretrained(directory)
