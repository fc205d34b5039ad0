"""An encoder cut in two: the layers below are frozen and run once a text, the layers above are what is tuned.

What the lower part says of a text is kept in half precision, which is also what the upper part is trained on: a
text gives the same numbers whether they were kept or computed again. This module is only imported where torch is.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mollm.classifier.encoder import Encoder
from mollm.errors import InputError, ModelFileError
from mollm.records import IntArray

MAX_TOKENS = 128  # the paper's
BATCH = 64


def layers_of(model: nn.Module) -> tuple[nn.Module, str, nn.ModuleList]:
    """(owner, attribute, list) of an encoder's stack of layers. Raises ModelFileError for an unknown architecture."""
    for owner in model.modules():
        for name, child in owner.named_children():
            if isinstance(child, nn.ModuleList) and len(child) > 1 and len({type(layer) for layer in child}) == 1:
                return owner, name, child
    raise ModelFileError(f'{type(model).__name__} has no stack of layers to tune: use `classifier = "head"`.')


class Passthrough(nn.Module):  # type: ignore[misc]
    """Stands for the frozen part: hands on the activations that come in as `inputs_embeds`, by name or by place."""

    def forward(self, *args: torch.Tensor | None, **named: torch.Tensor | None) -> torch.Tensor:
        given = (named.get("inputs_embeds"), *args)
        return next(value for value in given if value is not None and value.ndim == 3)


def upper_part(model: nn.Module, tuned: int) -> nn.Module:
    """A copy of the encoder that starts at the activations below its last `tuned` layers."""
    if not isinstance(getattr(model, "embeddings", None), nn.Module):
        raise ModelFileError(f'{type(model).__name__} cannot be cut below a layer: use `classifier = "head"`.')
    embeddings, model.embeddings = model.embeddings, Passthrough()  # the vocabulary is most of a small encoder
    try:
        upper = copy.deepcopy(model)
    finally:
        model.embeddings = embeddings
    if hasattr(upper, "embeddings_project"):  # ELECTRA's, below the layers too
        upper.embeddings_project = nn.Identity()
    owner, name, layers = layers_of(upper)
    setattr(owner, name, nn.ModuleList(list(layers)[len(layers) - tuned :]))
    return upper


class _ReachedError(Exception):
    """Ends a forward pass at the first tuned layer."""

    def __init__(self, states: torch.Tensor) -> None:
        super().__init__()
        self.states = states


def below(model: nn.Module, tuned: int, inputs: dict[str, torch.Tensor]) -> torch.Tensor:
    """(B, T, D): what goes into the first of the last `tuned` layers; nothing above it is run."""

    def stop(_: nn.Module, args: tuple[torch.Tensor, ...], kwargs: dict[str, torch.Tensor]) -> None:
        raise _ReachedError(args[0] if args else kwargs["hidden_states"])

    layers = layers_of(model)[2]
    handle = layers[len(layers) - tuned].register_forward_pre_hook(stop, with_kwargs=True)
    try:
        model(**inputs)
    except _ReachedError as reached:
        return reached.states
    finally:
        handle.remove()
    raise ModelFileError(f'{type(model).__name__} does not run its own layers: use `classifier = "head"`.')


@dataclass
class Activations:
    """What the frozen layers say of N texts: (tokens, D) packed, text n at `start[n]:start[n + 1]`."""

    values: torch.Tensor
    start: IntArray

    @property
    def N(self) -> int:
        return len(self.start) - 1

    @property
    def length(self) -> IntArray:
        return np.diff(self.start)

    def batch(self, index: IntArray) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, T, D) padded and its mask (B, T)."""
        parts = [self.values[self.start[n] : self.start[n + 1]] for n in index]
        states = nn.utils.rnn.pad_sequence(parts, batch_first=True).float()
        length = torch.from_numpy(self.length[index])
        return states, (torch.arange(states.shape[1])[None] < length[:, None]).long()


def activations(encoder: Encoder, texts: Sequence[str], tuned: int) -> Activations:
    """Run the frozen layers once over all texts; 2 D bytes a token are held."""
    tokenizer, model = encoder.load()
    layers = layers_of(model)[2]
    if not 0 < tuned <= len(layers):
        raise InputError(f"The encoder has {len(layers)} layers, not {tuned} to tune.")
    encoded = tokenizer(list(texts), truncation=True, max_length=MAX_TOKENS)["input_ids"] if len(texts) else []
    length = np.array([len(ids) for ids in encoded], dtype=np.int64)
    start = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
    values = torch.empty((int(start[-1]), model.config.hidden_size), dtype=torch.float16)
    order = np.argsort(length, kind="stable")
    with torch.inference_mode():
        for a in range(0, len(order), BATCH):
            index = order[a : a + BATCH]
            padded = tokenizer.pad({"input_ids": [encoded[n] for n in index]}, return_tensors="pt").to(model.device)
            states = below(model, tuned, dict(padded)).half().cpu()
            for row, n in enumerate(index):
                values[start[n] : start[n + 1]] = states[row, : length[n]]
    return Activations(values, start)
