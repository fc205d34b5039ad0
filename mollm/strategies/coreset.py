"""CoreSet: k-centre greedy (Sener and Savarese 2018). Each pick is the open item farthest from its nearest centre."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mollm.records import FloatArray, IntArray
from mollm.strategies import Picks, Pool

CHUNK = 4_096  # rows measured at once: few enough for the processor's cache
START = 32  # centres that all items are measured against (chosen by hand: each costs N distances, tightens bounds)
FEW = 512  # items to measure again at first (chosen by hand: more measures items in vain, fewer needs more passes)


def coreset(pool: Pool, batch: int, rng: np.random.Generator) -> Picks:
    """The first centres are the labelled items (none: a random item). The gain is the distance to the nearest one."""
    x = pool.embeddings()
    if not len(pool.open):
        return Picks(pool.open, np.empty(0))
    if len(pool.labelled):
        return k_centre(x, pool, x[pool.labelled], batch)
    return k_centre(x, pool, x[:0], batch, first=int(rng.integers(len(pool.open))))


def k_centre(x: NDArray[np.floating], pool: Pool, known: NDArray[np.floating], batch: int, first: int = 0) -> Picks:
    """Greedy over the open items of `x` (N, D) from the centres `known` (L, D); without any, from open item `first`.

    New centres can only lower an item's distance. So a distance to some of the centres is an upper bound. The item with
    the largest bound is the next pick if its bound covers all centres. So only a few items are measured against all
    centres, and no pair of an item and a centre is measured twice.
    """
    picks = min(max(batch, 0), len(pool.open))
    centres = np.concatenate([known, np.empty((picks, x.shape[1]), dtype=x.dtype)])
    L = len(known)
    bound = squared_to_centres(x, pool.open, known[:START]) if L else endless(len(pool.open), first)
    seen = np.full(len(bound), min(L, START))  # how many centres each item's bound covers
    chosen, gain, front = np.empty(picks, dtype=np.int64), np.empty(picks), FEW
    for b in range(picks):
        at = int(bound.argmax())
        while seen[at] < L + b:
            ahead = np.append(largest(bound, front), at)  # `largest` may leave out `at` if bounds are equal
            refresh(bound, seen, np.unique(ahead[seen[ahead] < L + b]), x, pool.open, centres[: L + b])
            at, front = int(bound.argmax()), front * 2
        front = max(front // 4, FEW)
        chosen[b], gain[b], centres[L + b] = at, bound[at], x[pool.open[at]]
        bound[at], seen[at] = -1, L + picks
    return Picks(pool.open[chosen], np.sqrt(np.maximum(gain, 0)))


def endless(K: int, first: int) -> FloatArray:
    """(K,) bounds above any distance, for when there is no centre yet. The bound of `first` is the largest."""
    bound: FloatArray = np.full(K, np.finfo(np.float64).max / 4)
    bound[first] *= 2
    return bound


def largest(values: FloatArray, count: int) -> IntArray:
    """Indices of the `count` largest values, not sorted."""
    if count >= len(values):
        return np.arange(len(values))
    return np.asarray(np.argpartition(values, len(values) - count)[len(values) - count :], dtype=np.int64)


def refresh(
    bound: FloatArray, seen: IntArray, stale: IntArray, x: NDArray[np.floating], rows: IntArray,
    centres: NDArray[np.floating],
) -> None:  # fmt: skip
    """Lower `bound` in place at the items `stale`, by the centres that they were not yet measured against."""
    new = centres[seen[stale].min() :]
    for start in range(0, len(stale), CHUNK):
        part = stale[start : start + CHUNK]
        bound[part] = np.minimum(bound[part], squared_to_centres(x, rows[part], new))
    seen[stale] = len(centres)


def squared_to_centres(x: NDArray[np.floating], rows: IntArray, centres: NDArray[np.floating]) -> FloatArray:
    """(K,): each row's squared distance to its nearest centre. In chunks: a K x L array would be too large."""
    half = np.einsum("ld,ld->l", centres, centres) / 2
    nearest = np.empty(len(rows))
    for start in range(0, len(rows), CHUNK):
        index = rows[start : start + CHUNK]
        in_a_row = bool((np.diff(index) == 1).all())
        part = x[index[0] : index[0] + len(index)] if in_a_row else x[index]
        product = part @ centres.T
        product -= half
        nearest[start : start + CHUNK] = np.einsum("nd,nd->n", part, part) - 2 * product.max(axis=1)
    return np.maximum(nearest, 0)
