"""CoreSet: k-centre greedy (Sener and Savarese 2018). Each pick is the open item farthest from all centres so far."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mollm.records import FloatArray
from mollm.strategies import Picks, Pool

CHUNK = 65_536


def coreset(pool: Pool, batch: int, rng: np.random.Generator) -> Picks:
    """Centres start as the labelled items (none: a random item); the gain is the distance to the nearest centre."""
    x = pool.embeddings()
    if not len(pool.open):
        return Picks(pool.open, np.empty(0))
    if len(pool.labelled):
        nearest = squared_to_centres(x, pool.open, x[pool.labelled])
    else:
        nearest = np.full(len(pool.open), np.inf)
        nearest[rng.integers(len(nearest))] = np.finfo(np.float64).max
        nearest[np.isinf(nearest)] = np.finfo(np.float64).max / 2
    return k_centre(x, pool, nearest, batch)


def k_centre(x: NDArray[np.floating], pool: Pool, nearest: FloatArray, batch: int) -> Picks:
    """Greedy over the open items, given each one's squared distance `nearest` (K,) to the centres so far.

    O(batch N D): one matrix-vector product a pick, in place, without a copy of the embeddings `x` (N, D).
    """
    whole = 2 * len(pool.open) > len(x)  # then all rows are walked, which is cheaper than a copy of most of them
    rows = x if whole else x[pool.open]
    place = pool.open if whole else np.arange(len(pool.open))
    norms = np.einsum("nd,nd->n", rows, rows)
    distance = np.full(len(rows), -1, dtype=rows.dtype)
    distance[place] = nearest
    nearest = distance
    taken = np.ones(len(rows), dtype=np.bool_)
    taken[place] = False
    chosen: list[int] = []
    gain: list[float] = []
    for _ in range(min(max(batch, 0), len(pool.open))):
        at = int(nearest.argmax())
        chosen.append(at)
        gain.append(float(nearest[at]))
        np.minimum(nearest, norms + norms[at] - 2 * (rows @ rows[at]), out=nearest)
        np.maximum(nearest, 0, out=nearest)
        taken[at] = True
        nearest[taken] = -1
    limit = np.sqrt(np.finfo(np.float64).max / 4)
    return Picks(
        np.array(chosen, dtype=np.int64) if whole else pool.open[chosen],
        np.minimum(np.sqrt(np.maximum(gain, 0)), limit),
    )


def squared_to_centres(x: NDArray[np.floating], rows: NDArray[np.int64], centres: NDArray[np.floating]) -> FloatArray:
    """(K,): each row's squared distance to its nearest centre, in chunks so that K x L is never held."""
    half = np.einsum("ld,ld->l", centres, centres) / 2
    nearest = np.empty(len(rows))
    for start in range(0, len(rows), CHUNK):
        part = x[rows[start : start + CHUNK]]
        closest = (part @ centres.T - half).max(axis=1)
        nearest[start : start + CHUNK] = np.einsum("nd,nd->n", part, part) - 2 * closest
    return np.maximum(nearest, 0)
