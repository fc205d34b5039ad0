"""Dawid and Skene's confusion matrices by EM, on soft votes, human labels clamped (doi 10.2307/2346806).

    E step  p[n, k]      ~ prior[k] * prod_m prod_j confusion[m, k, j] ** votes[n, m, j]
    M step  confusion[m, k, j] ~ pseudo-count + sum_n p[n, k] votes[n, m, j]

`confusion[annotator, true, said]`. Without human labels it may settle on another question than the one
that was asked (method.md 3b), so it is never a default.
"""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from scipy.special import softmax

from mollm.mixture import Mixture
from mollm.mixture.evidence import normalised, one_hot, panel_order
from mollm.mixture.pooled_votes import PooledVotes
from mollm.mixture.text_view import clamped
from mollm.records import FittedState, FloatArray, IntArray, Pool, Signals

ITERATIONS = 50  # at most; it usually settles long before (chosen by hand)
TOLERANCE = 1e-5  # of any probability: no answer changes below it
SMOOTHING = 1.0
"""Pseudo-votes a row of a confusion matrix, spread evenly; as many more on its diagonal."""


class DawidSkene(Mixture):
    name: ClassVar[str] = "dawid_skene"

    order_: IntArray
    prior_: FloatArray
    confusion_: FloatArray

    def learn(self, pool: Pool, rng: np.random.Generator) -> None:
        signals, targets = pool.signals, pool.targets
        self.order_ = panel_order(signals)
        votes = soft_votes(signals, self.order_)
        Y = one_hot(targets.label, signals.C)
        posterior = clamped(PooledVotes.rule(signals), targets.index, Y, targets.weight)
        for _ in range(ITERATIONS):
            self._m_step(votes, posterior)
            before = posterior
            posterior = clamped(self._e_step(votes), targets.index, Y, targets.weight)
            if np.abs(posterior - before).max() < TOLERANCE:
                break

    def _m_step(self, votes: FloatArray, posterior: FloatArray) -> None:
        C = posterior.shape[1]
        self.prior_ = (posterior.sum(axis=0) + SMOOTHING) / (len(posterior) + C * SMOOTHING)
        counts = np.einsum("nk,nmj->mkj", posterior, votes, optimize=True)
        self.confusion_ = normalised(counts + SMOOTHING / C + SMOOTHING * np.eye(C))

    def _e_step(self, votes: FloatArray) -> FloatArray:
        evidence = np.einsum("nmj,mkj->nk", votes, np.log(self.confusion_), optimize=True)
        return np.asarray(softmax(evidence + np.log(self.prior_), axis=1))

    def fuse(self, signals: Signals, embeddings: FloatArray | None) -> FloatArray:
        return self._e_step(soft_votes(signals, self.order_))

    def state(self) -> FittedState:
        arrays = {"order": self.order_, "prior": self.prior_, "confusion": self.confusion_}
        return FittedState(self.name, arrays, self._facts())

    @classmethod
    def from_state(cls, state: FittedState) -> Self:
        found = cls()._recall(state)
        found.order_ = np.asarray(state.arrays["order"], dtype=np.int64)
        found.prior_ = np.asarray(state.arrays["prior"], dtype=np.float64)
        found.confusion_ = np.asarray(state.arrays["confusion"], dtype=np.float64)
        return found

    def explain(self) -> str:
        right = np.einsum("mkk,k->m", self.confusion_, self.prior_)
        names = [self.annotators_[m] for m in self.order_]
        return "dawid_skene: " + ", ".join(
            f"{name} right {share:.0%}" for name, share in zip(names, right, strict=True)
        )


def soft_votes(signals: Signals, order: IntArray) -> FloatArray:
    """(N, M, C) votes that sum to at most 1 an annotator; what it abstained from is simply absent."""
    return np.nan_to_num(signals.votes)[:, order]
