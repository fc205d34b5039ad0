"""The log-odds pool: every annotator's centred log-probabilities, summed (method.md 3b, no human label at all).

    log p[n, k] = weight * sum_s (log z[n, s, k] - pool mean over n) + bias[k] + constant

Centring takes the classes to be equally frequent; `bias` is the prior correction, zero without human
labels and shrunk towards what they count as they come.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from scipy.special import softmax

from mollm.mixture import Mixture
from mollm.mixture import conditional_logit as logit
from mollm.mixture.evidence import Centring, chunks, one_hot
from mollm.records import FittedState, FloatArray, Pool, Signals

SHARPNESS = 1.0
"""The summed log-odds are worth this many independent annotators: a panel's LLMs make the same mistakes."""
LEVEL, BIAS = 20.0, 5.0
"""Ridges of the common weight (a signal) and of the class biases, in squared nats."""


class LogPool(Mixture):
    """No human label is needed; with some, one common weight and the class priors follow them.

    `centring` may be given when many fits share one pool's signals (cross-fitting).
    """

    name: ClassVar[str] = "logpool"

    centring_: Centring
    weight_: float
    bias_: FloatArray
    human_: int = 0

    def __init__(self, centring: Centring | None = None) -> None:
        self._centring = centring

    def learn(self, pool: Pool, rng: np.random.Generator) -> None:
        signals, targets = pool.signals, pool.targets
        self.centring_ = self._centring or Centring.of(signals)
        self.human_ = targets.H
        prior = prior_weight(signals.M)
        self.weight_, self.bias_ = prior, np.zeros(signals.C)
        if targets.H:
            F = self.centring_.log_odds(signals, targets.index).sum(axis=1, keepdims=True)
            Y = one_hot(targets.label, signals.C)
            nothing = np.zeros((targets.H, 0))
            fitted = logit.fit(F, nothing, np.zeros(0), Y, targets.weight, prior, penalties(signals.M))
            self.weight_, self.bias_ = float(fitted.weight[0]), fitted.bias

    def fuse(self, signals: Signals, embeddings: FloatArray | None) -> FloatArray:
        out = np.empty((signals.N, signals.C))
        for rows in chunks(signals.N):
            out[rows] = softmax(self.weight_ * self.centring_.log_odds(signals, rows).sum(axis=1) + self.bias_, axis=1)
        return out

    def state(self) -> FittedState:
        arrays = {"order": self.centring_.order, "mean": self.centring_.mean, "bias": self.bias_}
        facts = {**self._facts(), "weight": self.weight_, "human": self.human_}
        return FittedState(self.name, arrays, facts)

    @classmethod
    def from_state(cls, state: FittedState) -> Self:
        found = cls()._recall(state)
        found.centring_ = Centring(np.asarray(state.arrays["order"]), np.asarray(state.arrays["mean"]))
        found.bias_ = np.asarray(state.arrays["bias"])
        found.weight_ = float(str(state.facts["weight"]))
        found.human_ = int(str(state.facts["human"]))
        return found

    def explain(self) -> str:
        if not self.human_:
            return "logpool: the annotators' centred log-probabilities, pooled; no human label was used"
        return (
            f"logpool: pooled centred log-probabilities, their common weight and class priors from {self.human_} labels"
        )


def prior_weight(M: int) -> float:
    """The weight of one signal (of 2 M) before any label."""
    return SHARPNESS / (2 * M)


def penalties(M: int) -> logit.Penalties:
    """The pool's one weight carries the ridges of all 2 M signals."""
    return logit.Penalties(level=LEVEL * 2 * M, spread=0.0, bias=BIAS)
