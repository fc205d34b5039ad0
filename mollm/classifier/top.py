"""A tuned encoder: the lower layers are frozen and their activations kept, the top layers learn (`full`: all learn).

    logits = offset + W pool(upper(activations)) + b

The offset (N, C) is fixed. If it is the panel's log-posterior, the layers only learn what the panel does not know
(method.md 3c). Tuning starts from the pretrained layers and a head that was fitted to their states with a high penalty.
This head gives each class a direction, but lowers the loss little, so that the layers have something to learn.
Import this module only if torch is installed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from mollm.classifier.encoder import mean_pool
from mollm.classifier.head import Head
from mollm.classifier.layers import Activations, upper_part
from mollm.devices import cpu_has_bfloat16
from mollm.errors import ModelFileError, NotFittedError
from mollm.losses import Rows, robust_loss_torch
from mollm.records import FloatArray, IntArray

TUNED = 4  # layers: three of MiniLM's six had .003 less accuracy (TREC, 300 and 500 human labels, seeds 0 and 1)
EPOCHS, BATCH = 6, 8  # TREC, seeds 0 and 1, 100 to 500 labels: 6 to 12 % fewer errors than five epochs in batches of 32


@dataclass
class Top:
    """`fit` on J rows over N items' activations, then `logits` (N, C)."""

    C: int
    model: nn.Module  # the pretrained encoder; never changed
    tuned: int = TUNED
    epochs: int = EPOCHS
    batch: int = BATCH
    rate: float = 3e-4
    strength: float = 0.0
    start_ridge: float = 100.0  # penalty of the first head: with a good head the layers have nothing to learn
    upper_: Any = None
    head_: Any = None

    def fit(self, acts: Activations, rows: Rows, offset: FloatArray | None, seed: int) -> Self:
        """Learn from the rows' items; `offset` (N, C) in nats (None: zeros). The same seed gives the same result."""
        torch.manual_seed(seed)
        self.upper_ = upper_part(self.model, self.tuned)
        self._start_from_head(acts, rows, offset)
        shift = torch.zeros((acts.N, self.C)) if offset is None else torch.from_numpy(offset).float()
        optimiser, schedule = self._optimiser(max(1, self.epochs * math.ceil(rows.J / self.batch)))
        rng = np.random.default_rng([seed, 1])
        self.upper_.train()
        for _ in range(self.epochs):
            for chosen in length_batches(acts.length[rows.item], self.batch, rng):
                part = rows.take(chosen)
                loss = robust_loss_torch(
                    self.forward(acts, part.item) + shift[part.item].to(self.device),
                    torch.from_numpy(part.label).to(self.device),
                    torch.from_numpy(part.weight).float().to(self.device),
                    torch.from_numpy(part.negatives).to(self.device),
                    self.strength,
                )
                optimiser.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.upper_.parameters(), 1.0)
                optimiser.step()
                schedule.step()
        self.upper_.eval()
        return self

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _optimiser(self, steps: int) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
        """AdamW. The rate rises for a tenth of the steps, then falls to zero. The head's rate is ten times as high."""
        used = [value for value in self.upper_.parameters() if value.requires_grad]
        groups = [
            {"params": used, "lr": self.rate, "weight_decay": 0.01},
            {"params": list(self.head_.parameters()), "lr": self.rate * 10, "weight_decay": 0.0},
        ]
        optimiser = torch.optim.AdamW(groups, fused=True)

        def slope(s: int) -> float:
            return min((s + 1) / (0.1 * steps + 1), (steps - s) / (0.9 * steps))

        return optimiser, torch.optim.lr_scheduler.LambdaLR(optimiser, slope)

    def forward(self, acts: Activations, index: IntArray) -> torch.Tensor:
        """(B, C) logits without the offset."""
        return self.head_(self._pooled(acts, index))

    def _pooled(self, acts: Activations, index: IntArray) -> torch.Tensor:
        """(B, D) means of the last hidden states.

        On a GPU in bfloat16: it is faster and needs no loss scaling. A CPU that computes with it only learns in it, so
        that what is predicted hardly depends on which texts are predicted together.
        """
        states, mask = (part.to(self.device) for part in acts.batch(index))
        kind = self.device.type
        short = kind == "cuda" or (kind == "cpu" and self.upper_.training and cpu_has_bfloat16())
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=short):
            hidden = self.upper_(inputs_embeds=states, attention_mask=mask).last_hidden_state
        return mean_pool(hidden.float(), mask)

    def pooled(self, acts: Activations, index: IntArray) -> FloatArray:
        """(n, D): the pooled last hidden states of the items `index` (n,)."""
        out = np.empty((len(index), self.model.config.hidden_size))
        self.upper_.eval()
        with torch.inference_mode():
            for part in length_batches(acts.length[index], 128, None):
                out[part] = self._pooled(acts, index[part]).cpu().numpy()
        return out

    def _start_from_head(self, acts: Activations, rows: Rows, offset: FloatArray | None) -> None:
        known, place = np.unique(rows.item, return_inverse=True)
        head = Head(self.C, ridge=self.start_ridge).fit(
            self.pooled(acts, known),
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
        self.head_.to(self.device)

    def logits(self, acts: Activations, index: IntArray | None = None) -> FloatArray:
        """(n, C) in nats for the items `index` (n,) (None: all), without the offset. Raises NotFittedError."""
        if self.upper_ is None:
            raise NotFittedError("The classifier has not been fitted: call fit first.")
        x = self.pooled(acts, np.arange(acts.N) if index is None else index)
        weight, bias = (value.detach().double().cpu().numpy() for value in (self.head_.weight, self.head_.bias))
        return np.asarray(x @ weight.T + bias, dtype=np.float64)

    def weights(self) -> dict[str, NDArray[np.generic]]:
        """The learned parameters by name, for `restored`. Raises NotFittedError."""
        if self.upper_ is None:
            raise NotFittedError("The classifier has not been fitted: call fit first.")
        found: dict[str, NDArray[np.generic]] = {}
        for part, module in (("upper", self.upper_), ("head", self.head_)):
            found |= {f"{part}.{name}": value.cpu().numpy() for name, value in module.state_dict().items()}
        return found

    def restored(self, weights: Mapping[str, NDArray[np.generic]]) -> Self:
        """This classifier with parameters from `weights`. Raises ModelFileError if they do not fit the encoder."""
        self.upper_ = upper_part(self.model, self.tuned).eval()
        self.head_ = nn.Linear(self.model.config.hidden_size, self.C)
        try:
            for part, module in (("upper.", self.upper_), ("head.", self.head_)):
                mine = {name.removeprefix(part): np.array(weights[name]) for name in weights if name.startswith(part)}
                module.load_state_dict({name: torch.from_numpy(value) for name, value in mine.items()})
        except RuntimeError as error:
            raise ModelFileError(f"The tuned weights do not fit this encoder ({error}): train again.") from None
        self.upper_.to(self.device)
        self.head_.to(self.device)
        return self


def length_batches(length: IntArray, batch: int, rng: np.random.Generator | None) -> list[IntArray]:
    """Indices in batches of similar length. With `rng` they are shuffled, so that batches differ between epochs."""
    if rng is None:
        order = np.argsort(length, kind="stable")
        return [order[a : a + batch] for a in range(0, len(order), batch)]
    order = rng.permutation(len(length))
    blocks = [order[a : a + batch * 8] for a in range(0, len(order), batch * 8)]
    order = np.concatenate([block[np.argsort(length[block], kind="stable")] for block in blocks])
    batches = [order[a : a + batch] for a in range(0, len(order), batch)]
    return [batches[b] for b in rng.permutation(len(batches))]
