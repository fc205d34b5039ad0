"""Margin: the items whose two most likely labels have the closest probabilities."""

from __future__ import annotations

import numpy as np

from mollm.records import FloatArray
from mollm.strategies import Picks, Pool, best


def undecided(probs: FloatArray) -> FloatArray:
    """(K,) in 0..1 from `probs` (K, C): 1 minus the gap between the two most likely labels (one class: 0)."""
    if probs.shape[1] < 2:
        return np.zeros(len(probs))
    top = np.partition(probs, -2, axis=1)[:, -2:]
    return np.asarray(1 - (top[:, 1] - top[:, 0]), dtype=np.float64)


def margin(pool: Pool, batch: int, rng: np.random.Generator) -> Picks:
    """The smallest gap first. The gain is 1 minus the gap."""
    return best(pool.open, undecided(pool.probs[pool.open]), batch, rng)
