"""What a panel says, as centred log-odds: the one view of the signals on which every learned aggregator stands.

An LLM that likes the word "description" says it too often for all items alike. Subtracting each annotator's and
class's pool mean from the log-probabilities takes that liking out without any human label (method.md 3b).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from mollm.records import BoolArray, FloatArray, IntArray, Signals

FLOOR = 1e-3
"""A label probability below this says no more than this: one annotator must not veto a class on its own."""
VOTE_FLOOR = 0.05
"""Half a vote of ten samples, added to each class."""
OVERFULL = 1.5
"""A row of raw label mass above this was collected on an empty first token and says nothing (method.md 2)."""
CHUNK = 16_384
"""Items in memory at a time: a million items stream through in two hundred megabytes, their embeddings included."""


def chunks(n: int, size: int = CHUNK) -> Iterator[slice]:
    """Slices that cover 0..n-1 in order."""
    return (slice(start, min(start + size, n)) for start in range(0, n, size))


def panel_order(signals: Signals) -> IntArray:
    """The annotators by name, so that their order in the panel changes nothing."""
    return np.argsort(np.array(signals.annotators, dtype=np.str_), kind="stable")


def one_hot(labels: IntArray, C: int) -> FloatArray:
    """(H, C) from (H,)."""
    return np.asarray(np.eye(C)[labels])


def normalised(rows: FloatArray) -> FloatArray:
    """(..., C) rows of mass as distributions; a row without mass (or NaN) is uniform."""
    mass = np.nan_to_num(rows)
    total = mass.sum(axis=-1, keepdims=True)
    return np.where(total > 0, mass / np.where(total > 0, total, 1.0), 1.0 / rows.shape[-1])


def _log_odds(mass: FloatArray, floor: float) -> FloatArray:
    logs = np.log(np.maximum(mass, floor))
    return np.asarray(logs - logs.mean(axis=-1, keepdims=True))


def _raw(signals: Signals, order: IntArray, rows: slice | IntArray) -> tuple[FloatArray, BoolArray]:
    """Uncentred log-odds (n, 2M, C), label probabilities first, then votes; and which of them say something."""
    mass, votes = signals.label_probs[rows][:, order], np.nan_to_num(signals.votes[rows][:, order])
    total = np.nan_to_num(mass).sum(axis=-1)
    spoke = np.concatenate([(total > 0) & (total < OVERFULL), votes.sum(axis=-1) > 0], axis=1)
    logs = np.concatenate([_log_odds(normalised(mass), FLOOR), _log_odds(votes + VOTE_FLOOR, VOTE_FLOOR)], axis=1)
    return logs, np.asarray(spoke, dtype=np.bool_)


@dataclass(frozen=True)
class Centring:
    """Each signal's mean log-odds over a pool: `mean` (2M, C) nats, annotators by name, probabilities then votes."""

    order: IntArray
    mean: FloatArray

    @classmethod
    def of(cls, signals: Signals) -> Centring:
        """The pool's means, over the rows that say something. One pass, in chunks."""
        order = panel_order(signals)
        total, count = np.zeros((2 * signals.M, signals.C)), np.zeros(2 * signals.M)
        for rows in chunks(signals.N):
            logs, spoke = _raw(signals, order, rows)
            total += np.einsum("nsc,ns->sc", logs, spoke)
            count += spoke.sum(axis=0)
        return cls(order, total / np.maximum(count, 1.0)[:, None])

    def log_odds(self, signals: Signals, rows: slice | IntArray = slice(None)) -> FloatArray:
        """(n, 2M, C) centred log-odds in nats; zero, which is no evidence, where an annotator is silent."""
        logs, spoke = _raw(signals, self.order, rows)
        return np.asarray((logs - self.mean) * spoke[..., None])
