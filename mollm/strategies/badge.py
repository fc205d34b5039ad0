"""BADGE (Ash et al. 2020): k-means++ over the gradients of the last layer, with the most likely label as the truth."""

from __future__ import annotations

import numpy as np

from mollm.records import BoolArray, FloatArray
from mollm.strategies import Picks, Pool


def badge(pool: Pool, batch: int, rng: np.random.Generator) -> Picks:
    """The first pick has the longest gradient. Each next pick is drawn with a probability proportional to its squared
    distance to the nearest pick so far. The gain is that distance. An item's gradient is (p - onehot(argmax p)) outer
    x, C D numbers. It is never computed: the inner product of two outer products is a product of two inner products.
    """
    if not len(pool.open) or batch <= 0:
        return Picks(np.empty(0, dtype=np.int64), np.empty(0))
    x = pool.embeddings()[pool.open]
    error = pool.probs[pool.open].astype(np.float64)
    error[np.arange(len(error)), error.argmax(axis=1)] -= 1
    norms = (error**2).sum(axis=1) * np.einsum("nd,nd->n", x, x)
    at = int(norms.argmax())
    nearest = np.full(len(x), np.inf)
    chosen, gain = [], []
    free = np.ones(len(x), dtype=np.bool_)
    for _ in range(min(batch, len(x))):
        chosen.append(at)
        gain.append(float(np.sqrt(min(nearest[at], norms[at]))))
        free[at] = False
        distance = norms + norms[at] - 2 * (error @ error[at]) * (x @ x[at])
        nearest = np.maximum(np.minimum(nearest, distance), 0) * free
        at = draw(nearest, free, rng)
    return Picks(pool.open[chosen], np.array(gain))


def draw(weight: FloatArray, free: BoolArray, rng: np.random.Generator) -> int:
    """An index drawn with probability proportional to `weight` (K,); if all weights are 0, any index in `free` (K,)."""
    total = np.cumsum(weight if weight.sum() > 0 else free)
    return int(min(np.searchsorted(total, rng.random() * total[-1], side="right"), len(total) - 1))
