"""The paper's robust loss (method.md 1.4 and 1.5; Qi et al. 2026, "Annotation discrepancy", "Negative learning").

    loss = mean_j w_j CE(p_j, y_j) + lambda_r mean_{j with negatives} ( - mean_{k in y-_j} log(1 - p_j[k] + 1e-6) )

J rows, C classes. The formula is written twice: for numpy (with its gradient, for the convex head) and for torch (for
tuned encoders). A test compares the two. Human rows have no negatives: at weight 1 they give plain cross-entropy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.special import log_softmax

from mollm.config import LoopConfig
from mollm.errors import InputError
from mollm.records import BoolArray, FloatArray, IntArray, TrainingRow

if TYPE_CHECKING:
    import torch

EPSILON = 1e-6  # as in the paper's code: keeps log(1 - p) finite at p = 1


@dataclass(frozen=True)
class Rows:
    """Training rows as arrays: `item` (J,) indices into the pool, `label` (J,), `weight` (J,), `negatives` (J, C)."""

    item: IntArray
    label: IntArray
    weight: FloatArray
    negatives: BoolArray

    @property
    def J(self) -> int:
        """The number of training rows."""
        return len(self.item)

    @classmethod
    def of(cls, rows: Sequence[TrainingRow], C: int) -> Rows:
        """Arrays from records. Raises InputError for a class outside 0..C-1, or a row's own label as a negative."""
        negatives = np.zeros((len(rows), C), dtype=np.bool_)
        for j, row in enumerate(rows):
            if not 0 <= row.label < C or any(not 0 <= k < C or k == row.label for k in row.negatives):
                raise InputError(
                    f"Training row of item {row.item}: label {row.label}, negatives {row.negatives} of {C}."
                )
            negatives[j, list(row.negatives)] = True
        return cls(
            np.array([row.item for row in rows], dtype=np.int64),
            np.array([row.label for row in rows], dtype=np.int64),
            np.array([row.weight for row in rows], dtype=np.float64),
            negatives,
        )

    def take(self, chosen: IntArray | BoolArray) -> Rows:
        return Rows(self.item[chosen], self.label[chosen], self.weight[chosen], self.negatives[chosen])


def negative_strength(round_index: int, config: LoopConfig) -> float:
    """lambda_r of round r = 0, 1, ...: linear from `lambda_start` to `lambda_end`, then constant."""
    share = min(max(round_index, 0) / config.lambda_rounds, 1.0)
    return config.lambda_start + share * (config.lambda_end - config.lambda_start)


def robust_loss(logits: FloatArray, rows: Rows, strength: float) -> tuple[float, FloatArray]:
    """The loss in nats and its gradient (J, C) in the `logits` (J, C). `strength` is lambda_r."""
    J = max(rows.J, 1)
    here = np.arange(rows.J)
    log_p = log_softmax(logits, axis=1)
    p = np.exp(log_p)
    value = -float(rows.weight @ log_p[here, rows.label]) / J
    gradient = p * rows.weight[:, None] / J
    gradient[here, rows.label] -= rows.weight / J
    counts = rows.negatives.sum(axis=1)
    with_negatives = int((counts > 0).sum())
    if strength == 0 or with_negatives == 0:
        return value, gradient
    share = rows.negatives / np.maximum(counts, 1)[:, None] * (strength / with_negatives)
    room = 1 - p + EPSILON
    value -= float((share * np.log(room)).sum())
    slope = share / room  # d value / d p
    gradient += p * (slope - (slope * p).sum(axis=1, keepdims=True))
    return value, gradient


def robust_loss_torch(
    logits: torch.Tensor,
    label: torch.Tensor,
    weight: torch.Tensor,
    negatives: torch.Tensor,
    strength: float,
) -> torch.Tensor:
    """The same loss for torch, in nats: `logits` (J, C), `label` (J,), `weight` (J,), `negatives` (J, C) boolean."""
    log_p = logits.log_softmax(dim=1)
    value = -(weight * log_p.gather(1, label[:, None])[:, 0]).mean()
    counts = negatives.sum(dim=1)
    chosen = counts > 0
    if strength == 0 or not bool(chosen.any()):
        return value
    room = (1 - log_p.exp() + EPSILON).log() * negatives
    return value - strength * (room.sum(dim=1)[chosen] / counts[chosen]).mean()
