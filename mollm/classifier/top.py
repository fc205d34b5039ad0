"""A tuned encoder: the layers below are frozen and their activations cached, the top ones learn (`full`: all learn).

    logits = offset + W pool(upper(activations)) + b

The offset (N, C) is fixed: with the panel's log-posterior there, the text only learns what the panel does not know
(method.md 3c). Tuning starts from the pretrained layers and from a heavily penalised head on their frozen states: a
direction for every class, but nearly the whole loss left for the layers. This module is only imported where torch is.
"""

from __future__ import annotations

import copy
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mollm.classifier.encoder import Encoder, mean_pool
from mollm.classifier.head import Head
from mollm.errors import InputError, ModelFileError, NotFittedError
from mollm.losses import Rows, robust_loss_torch
from mollm.records import FloatArray, IntArray

MAX_TOKENS = 128  # the paper's
TUNED = 3  # layers


def layers_of(model: nn.Module) -> tuple[nn.Module, str, nn.ModuleList]:
    """(owner, attribute, list) of an encoder's stack of layers. Raises ModelFileError for an unknown architecture."""
    for owner in model.modules():
        for name, child in owner.named_children():
            if isinstance(child, nn.ModuleList) and len(child) > 1 and len({type(layer) for layer in child}) == 1:
                return owner, name, child
    raise ModelFileError(f'{type(model).__name__} has no stack of layers to tune: use `classifier = "head"`.')


class Passthrough(nn.Module):  # type: ignore[misc]
    """Stands for the frozen part: hands on the activations that come in as `inputs_embeds`."""

    def forward(self, *_: object, inputs_embeds: torch.Tensor, **__: object) -> torch.Tensor:
        return inputs_embeds


def upper_part(model: nn.Module, tuned: int) -> nn.Module:
    """A copy of the encoder that starts at the activations below its last `tuned` layers."""
    upper = copy.deepcopy(model)
    owner, name, layers = layers_of(upper)
    setattr(owner, name, nn.ModuleList(list(layers)[len(layers) - tuned :]))
    upper.embeddings = Passthrough()
    return upper


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
        parts = [self.values[self.start[n] : self.start[n + 1]].float() for n in index]
        mask = nn.utils.rnn.pad_sequence([torch.ones(len(part), dtype=torch.long) for part in parts], batch_first=True)
        return nn.utils.rnn.pad_sequence(parts, batch_first=True), mask


def activations(encoder: Encoder, texts: Sequence[str], tuned: int, batch: int = 64) -> Activations:
    """Run the frozen layers once over all texts."""
    tokenizer, model = encoder.load()
    layers = layers_of(model)[2]
    if tuned > len(layers):
        raise InputError(f"The encoder has {len(layers)} layers, not {tuned} to tune.")
    encoded = tokenizer(list(texts), truncation=True, max_length=MAX_TOKENS)["input_ids"]
    length = np.array([len(ids) for ids in encoded], dtype=np.int64)
    start = np.concatenate([[0], np.cumsum(length)])
    values = torch.empty((int(start[-1]), model.config.hidden_size), dtype=torch.float16)
    order = np.argsort(length, kind="stable")
    with torch.inference_mode():
        for a in range(0, len(order), batch):
            index = order[a : a + batch]
            padded = tokenizer.pad({"input_ids": [encoded[n] for n in index]}, return_tensors="pt").to(model.device)
            states = model(**padded, output_hidden_states=True).hidden_states[len(layers) - tuned]
            for row, n in enumerate(index):
                values[start[n] : start[n + 1]] = states[row, : length[n]].half().cpu()
    return Activations(values, start)


@dataclass
class Top:
    """`fit` on J rows over N items' activations, then `logits` (N, C)."""

    C: int
    model: nn.Module  # the pretrained encoder; never changed
    tuned: int = 3
    epochs: int = 8
    batch: int = 32
    rate: float = 2e-4
    strength: float = 0.0
    start_ridge: float = 100.0  # of the head that tuning starts from: a good head leaves the layers nothing to learn
    upper_: Any = None
    head_: Any = None

    def fit(self, acts: Activations, rows: Rows, offset: FloatArray | None, seed: int) -> Self:
        """Learn from the rows' items; `offset` (N, C) in nats. Deterministic for a seed."""
        torch.manual_seed(seed)
        self.upper_ = upper_part(self.model, self.tuned)
        frozen = self.pooled(acts, np.unique(rows.item))
        self._start_from_head(frozen, rows, offset)
        shift = torch.zeros((acts.N, self.C)) if offset is None else torch.from_numpy(offset).float()
        groups = [
            {"params": list(self.upper_.parameters()), "lr": self.rate},
            {"params": list(self.head_.parameters()), "lr": self.rate * 10, "weight_decay": 0.0},
        ]
        optimiser = torch.optim.AdamW(groups, weight_decay=0.01)
        steps = max(1, self.epochs * math.ceil(rows.J / self.batch))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda s: min((s + 1) / (0.1 * steps + 1), (steps - s) / (0.9 * steps))
        )
        rng = np.random.default_rng([seed, 1])
        self.upper_.train()
        for _ in range(self.epochs):
            for chosen in length_batches(acts.length[rows.item], self.batch, rng):
                part = rows.take(chosen)
                loss = robust_loss_torch(
                    self.forward(acts, part.item) + shift[part.item],
                    torch.from_numpy(part.label),
                    torch.from_numpy(part.weight).float(),
                    torch.from_numpy(part.negatives),
                    self.strength,
                )
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.upper_.parameters(), 1.0)
                optimiser.step()
                schedule.step()
        self.upper_.eval()
        return self

    def forward(self, acts: Activations, index: IntArray) -> torch.Tensor:
        states, mask = acts.batch(index)
        hidden = self.upper_(inputs_embeds=states, attention_mask=mask).last_hidden_state
        return self.head_(mean_pool(hidden, mask))

    def pooled(self, acts: Activations, index: IntArray) -> FloatArray:
        """(N, D): the pooled last states of the items `index`, zeros elsewhere."""
        out = np.zeros((acts.N, self.model.config.hidden_size))
        self.upper_.eval()
        with torch.inference_mode():
            for part in length_batches(acts.length[index], 128, None):
                states, mask = acts.batch(index[part])
                hidden = self.upper_(inputs_embeds=states, attention_mask=mask).last_hidden_state
                out[index[part]] = mean_pool(hidden, mask).numpy()
        return out

    def _start_from_head(self, frozen: FloatArray, rows: Rows, offset: FloatArray | None) -> None:
        known, place = np.unique(rows.item, return_inverse=True)
        head = Head(self.C, ridge=self.start_ridge).fit(
            frozen[known],
            Rows(place, rows.label, rows.weight, rows.negatives),
            None if offset is None else offset[known],
        )
        assert head.W_ is not None
        assert head.b_ is not None
        weight = head.W_ / head.scale_[:, None]
        self.head_ = nn.Linear(weight.shape[0], self.C)
        with torch.no_grad():
            self.head_.weight.copy_(torch.from_numpy(weight.T))
            self.head_.bias.copy_(torch.from_numpy(head.b_ - head.mean_ @ weight))

    def logits(self, acts: Activations, index: IntArray | None = None) -> FloatArray:
        """(n, C) in nats of the items `index` (None: all), without the offset."""
        if self.upper_ is None:
            raise NotFittedError("The classifier has not been fitted: call fit first.")
        index = np.arange(acts.N) if index is None else index
        x = self.pooled(acts, index)[index]
        with torch.inference_mode():
            return np.asarray(self.head_(torch.from_numpy(x).float()).double().numpy(), dtype=np.float64)

    def weights(self) -> dict[str, NDArray[np.generic]]:
        """The learned parameters by name, for `restored`."""
        if self.upper_ is None:
            raise NotFittedError("The classifier has not been fitted: call fit first.")
        found: dict[str, NDArray[np.generic]] = {}
        for part, module in (("upper", self.upper_), ("head", self.head_)):
            found |= {f"{part}.{name}": value.numpy() for name, value in module.state_dict().items()}
        return found

    def restored(self, weights: Mapping[str, NDArray[np.generic]]) -> Self:
        """The fitted classifier again. Raises ModelFileError when the weights are another encoder's."""
        self.upper_ = upper_part(self.model, self.tuned).eval()
        self.head_ = nn.Linear(self.model.config.hidden_size, self.C)
        try:
            for part, module in (("upper.", self.upper_), ("head.", self.head_)):
                mine = {name.removeprefix(part): np.array(weights[name]) for name in weights if name.startswith(part)}
                module.load_state_dict({name: torch.from_numpy(value) for name, value in mine.items()})
        except RuntimeError as error:
            raise ModelFileError(f"The tuned weights do not fit this encoder ({error}): train again.") from None
        return self


def length_batches(length: IntArray, batch: int, rng: np.random.Generator | None) -> list[IntArray]:
    """Indices in batches of similar length; shuffled when `rng` is given, so that batches differ between epochs."""
    if rng is None:
        order = np.argsort(length, kind="stable")
        return [order[a : a + batch] for a in range(0, len(order), batch)]
    order = rng.permutation(len(length))
    blocks = [order[a : a + batch * 8] for a in range(0, len(order), batch * 8)]
    order = np.concatenate([block[np.argsort(length[block], kind="stable")] for block in blocks])
    batches = [order[a : a + batch] for a in range(0, len(order), batch)]
    return [batches[b] for b in rng.permutation(len(batches))]


def save(top: Top, encoder: Encoder, directory: Path, labels: Sequence[str], facts: Mapping[str, object]) -> None:
    """Write the tuned encoder as an ordinary `save_pretrained` directory, with its head and a model card.

    `AutoModel` and `AutoTokenizer` load it; `head.safetensors` holds `weight` (C, D) and `bias` (C,) for the mean of
    the last hidden states over a text's tokens. `facts` (data, scores) go into the card. Written by rename.
    """
    from safetensors.torch import save_file

    if top.upper_ is None:
        raise NotFittedError("The classifier has not been fitted: call fit first.")
    tokenizer, model = encoder.load()
    whole = copy.deepcopy(model)
    layers, tuned = layers_of(whole)[2], layers_of(top.upper_)[2]
    for layer, learned in zip(list(layers)[len(layers) - len(tuned) :], tuned, strict=True):
        layer.load_state_dict(learned.state_dict())
    whole.config.id2label = dict(enumerate(labels))
    whole.config.label2id = {label: c for c, label in enumerate(labels)}
    part = directory.with_name(directory.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    whole.save_pretrained(part)
    tokenizer.save_pretrained(part)
    head = {"weight": top.head_.weight.detach().contiguous(), "bias": top.head_.bias.detach()}
    save_file(head, part / "head.safetensors")
    (part / "README.md").write_text(CARD.format(labels=", ".join(labels), facts=listed(facts)), encoding="utf-8")
    shutil.rmtree(directory, ignore_errors=True)
    part.replace(directory)


def listed(facts: Mapping[str, object]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in facts.items())


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
