"""The log-odds pool: every annotator's centred log-probabilities, summed (method.md 3b, no human label at all).

    log p[n, k] = weight * sum_s share[s] * (log z[n, s, k] - pool mean over n) + bias[k] + constant

The shares need no label (see `mollm.mixture.skills`). Centring takes the classes to be equally
frequent; `bias` is the prior correction. Without human labels it is what the pool's `frequencies` say (zero where they
say nothing), and it moves towards what the labels count as they come.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from scipy.special import softmax

from mollm.mixture import Mixture
from mollm.mixture import conditional_logit as logit
from mollm.mixture.evidence import Centring, chunks, one_hot
from mollm.mixture.skills import shares
from mollm.records import FittedState, FloatArray, IntArray, Pool, Signals

SHARPNESS = 1.0
"""The summed log-odds are worth this many independent annotators: a panel's LLMs make the same mistakes."""
LEVEL, BIAS = 20.0, 5.0
"""Ridges of the common weight (a signal) and of the class biases, in squared nats."""


class LogPool(Mixture):
    """No human label is needed; with some, one common weight and the class priors follow them.

    `centring` and `shares` may be given when many fits share one pool's signals (cross-fitting).
    """

    name: ClassVar[str] = "logpool"

    centring_: Centring
    shares_: FloatArray
    weight_: float
    bias_: FloatArray
    human_: int = 0

    def __init__(self, centring: Centring | None = None, shares: FloatArray | None = None) -> None:
        self._centring, self._shares = centring, shares

    def learn(self, pool: Pool, rng: np.random.Generator) -> None:
        signals, targets = pool.signals, pool.targets
        self.centring_ = self._centring or Centring.of(signals)
        self.shares_ = shares(pool, self.centring_) if self._shares is None else self._shares
        self.human_ = targets.H
        prior = prior_weight(signals.M)
        self.weight_, self.bias_ = prior, pool.bias
        if targets.H:
            F = self._pooled(signals, targets.index)[:, None]
            Y = one_hot(targets.label, signals.C)
            nothing = np.zeros((targets.H, 0))
            weight, ridges = np.array([prior]), penalties(signals.M)
            fitted = logit.fit(F, nothing, np.zeros(0), Y, targets.weight, weight, pool.bias, ridges)
            self.weight_, self.bias_ = float(fitted.weight[0]), fitted.bias

    def fuse(self, signals: Signals, embeddings: FloatArray | None) -> FloatArray:
        out = np.empty((signals.N, signals.C))
        for rows in chunks(signals.N):
            out[rows] = softmax(self.weight_ * self._pooled(signals, rows) + self.bias_, axis=1)
        return out

    def _pooled(self, signals: Signals, rows: slice | IntArray) -> FloatArray:
        """(n, C) the log-odds summed over the signals, two an annotator."""
        odds = self.centring_.log_odds(signals, rows)
        return np.asarray(np.einsum("nsc,s->nc", odds, np.tile(self.shares_, 2)))

    def state(self) -> FittedState:
        arrays = {"order": self.centring_.order, "mean": self.centring_.mean, "bias": self.bias_}
        arrays["shares"] = self.shares_
        facts = {**self._facts(), "weight": self.weight_, "human": self.human_}
        return FittedState(self.name, arrays, facts)

    @classmethod
    def from_state(cls, state: FittedState) -> Self:
        found = cls()._recall(state)
        found.centring_ = Centring(np.asarray(state.arrays["order"]), np.asarray(state.arrays["mean"]))
        found.shares_ = np.asarray(state.arrays.get("shares", np.ones(len(found.annotators_))))  # equal up to 0.4
        found.bias_ = np.asarray(state.arrays["bias"])
        found.weight_ = float(str(state.facts["weight"]))
        found.human_ = int(str(state.facts["human"]))
        return found

    def explain(self) -> str:
        names = (self.annotators_[m] for m in self.centring_.order)
        each = ", ".join(f"{name} {share:.2f}" for name, share in zip(names, self.shares_, strict=True))
        told = f", each by what it seems worth ({each})," if np.ptp(self.shares_) > 0 else ""
        if not self.human_:
            return f"logpool: the annotators' centred log-probabilities, pooled{told}; no human label was used"
        how = f"their common weight and class priors from {self.human_} labels"
        return f"logpool: pooled centred log-probabilities{told}, {how}"


def before_labels(signals: Signals, frequencies: tuple[float, ...] | None = None) -> LogPool:
    """The pool of signals alone: no human label and no text has a part. `frequencies` (C,): as in `Pool`."""
    return LogPool().fit(Pool(signals, frequencies=frequencies), rng=np.random.default_rng(0))  # it draws nothing


def prior_weight(M: int) -> float:
    """The weight of one signal (of 2 M) before any label."""
    return SHARPNESS / (2 * M)


def penalties(M: int) -> logit.Penalties:
    """The pool's one weight carries the ridges of all 2 M signals."""
    return logit.Penalties(level=LEVEL * 2 * M, spread=0.0, bias=BIAS)
