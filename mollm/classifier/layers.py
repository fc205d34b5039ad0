"""An encoder cut in two: the lower layers are frozen and run once for each text, the upper layers are tuned.

The output of the lower layers is kept in half precision, and the upper layers are trained on it. So a text gives the
same numbers whether its output was kept or is computed again. Import this module only if torch is installed.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from mollm.classifier.encoder import Encoder
from mollm.classifier.windows import Unread
from mollm.errors import InputError, ModelFileError
from mollm.records import IntArray

MAX_TOKENS = 128  # of a text, the rest is cut: the paper's value
BATCH = 64  # texts in a forward pass (chosen by hand: larger is faster on a GPU, smaller takes less memory)


def layers_of(model: nn.Module) -> tuple[nn.Module, str, nn.ModuleList]:
    """(owner, attribute, list) of an encoder's stack of layers. Raises ModelFileError if there is no such stack."""
    for owner in model.modules():
        for name, child in owner.named_children():
            if isinstance(child, nn.ModuleList) and len(child) > 1 and len({type(layer) for layer in child}) == 1:
                return owner, name, child
    raise ModelFileError(f'{type(model).__name__} has no stack of layers to tune: use `classifier = "head"`.')


def size(model: nn.Module, tuned: int) -> int:
    """The parameters of an encoder's last `tuned` layers. Raises ModelFileError."""
    layers = layers_of(model)[2]
    return sum(value.numel() for layer in layers[len(layers) - tuned :] for value in layer.parameters())


class Passthrough(nn.Module):  # type: ignore[misc]
    """Replaces the embeddings: returns the activations that are given as `inputs_embeds`, by name or by position."""

    def forward(self, *args: torch.Tensor | None, **named: torch.Tensor | None) -> torch.Tensor:
        given = (named.get("inputs_embeds"), *args)
        return next(value for value in given if value is not None and value.ndim == 3)


def upper_part(model: nn.Module, tuned: int) -> nn.Module:
    """A copy of the encoder from its last `tuned` layers on. It takes activations as `inputs_embeds`. Raises
    ModelFileError if the encoder cannot be cut."""
    if not isinstance(getattr(model, "embeddings", None), nn.Module):
        raise ModelFileError(f'{type(model).__name__} cannot be cut below a layer: use `classifier = "head"`.')
    embeddings, model.embeddings = model.embeddings, Passthrough()  # not copied: most of a small encoder
    try:
        upper = copy.deepcopy(model)
    finally:
        model.embeddings = embeddings
    if hasattr(upper, "embeddings_project"):  # in ELECTRA: it lies below the layers too
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
    """(B, tokens, D): the input of the first of the last `tuned` layers. These layers are not run."""

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
    """The output of the frozen layers for N texts: `values` (all tokens, D), text n at `start[n]:start[n + 1]`."""

    values: torch.Tensor
    start: IntArray

    @property
    def N(self) -> int:
        return len(self.start) - 1

    @property
    def length(self) -> IntArray:
        return np.diff(self.start)

    def batch(self, index: IntArray) -> tuple[torch.Tensor, torch.Tensor]:
        """((B, tokens, D) padded with zeros, its mask (B, tokens)) for the texts `index` (B,)."""
        parts = [self.values[self.start[n] : self.start[n + 1]] for n in index]
        states = nn.utils.rnn.pad_sequence(parts, batch_first=True).float()
        length = torch.from_numpy(self.length[index])
        return states, (torch.arange(states.shape[1])[None] < length[:, None]).long()


def unread(encoder: Encoder, texts: Sequence[str]) -> Unread:
    """What tuned layers do not see of the texts."""
    return encoder.beyond(texts, encoder.windows(MAX_TOKENS, 0, 1)[1])


def activations(encoder: Encoder, texts: Sequence[str], tuned: int) -> Activations:
    """Run the frozen layers once over all texts: 2 D bytes a token. Raises InputError if it has fewer layers."""
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
