"""Noise Stability (Li et al. 2024): the items whose predictions change most, and differently, under model noise."""

from __future__ import annotations

import numpy as np

from mollm.strategies import Picks, Pool
from mollm.strategies.coreset import k_centre


def noise_stability(pool: Pool, batch: int, rng: np.random.Generator) -> Picks:
    """k-centre greedy over the deviations (N, E C) of E perturbed models from their mean. The first centre is 0.

    So the first pick deviates most, and each next pick differs most from all before it. The gain is that distance.
    """
    members = pool.sampled(rng)
    shaken = members - members.mean(axis=0)
    deviation = shaken.transpose(1, 0, 2).reshape(pool.N, members.shape[0] * members.shape[2])
    return k_centre(deviation, pool, np.zeros((1, deviation.shape[1]), dtype=deviation.dtype), batch)
