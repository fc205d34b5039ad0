"""What items with like answers are believed to be: a regression forest from the panel's evidence to the posterior.

The few labels of humans leave a fitted mixture rough: right about a cluster of items as a whole, wrong about some of
them. Coarse leaves, grown to what the mixture believes of the *whole pool*, average it over items that the panel
answered alike: the cluster assumption, self-training with soft targets and without a threshold. As with the other
forests its rows and its seed are stored, and it is grown again from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any
from zlib import crc32

import numpy as np
from sklearn.ensemble import ExtraTreesRegressor

from mollm.records import FloatArray, IntArray

TREES = 30  # chosen by hand: more are smoother and slower
SAMPLE = 1_500
"""Unlabelled items that it is grown on (3,000 were no better)."""
LEAVES = 150
"""A leaf holds at least one in so many of them."""
FEATURES = 0.3
"""Share of the signals that a split may choose among."""

GRID = 256
"""The posterior is rounded to so many steps: sums of them are exact, so that no rounding error breaks a split's tie."""


@dataclass(frozen=True)
class PoolForest:
    """Grown from rows X (n, D) and the mixture's posterior of them, Q (n, C), with a seed."""

    X: FloatArray
    Q: FloatArray
    seed: int
    grown: list[Any] = field(default_factory=list, compare=False, repr=False)

    def __post_init__(self) -> None:
        leaf = -(-len(self.X) // LEAVES)
        trees = ExtraTreesRegressor(
            TREES, min_samples_leaf=leaf, max_features=FEATURES, random_state=self.seed, n_jobs=1
        )
        self.grown.append(trees.fit(self.X.astype(np.float32), np.round(self.Q * GRID) / GRID))

    def proba(self, X: FloatArray) -> FloatArray:
        """(n, C) the mean posterior of the items with like answers."""
        found: FloatArray = self.grown[0].predict(X.astype(np.float32)).reshape(len(X), -1)
        return np.asarray(found / found.sum(axis=1, keepdims=True))

    def arrays(self) -> dict[str, np.ndarray[Any, Any]]:
        return {"pool_X": self.X.astype(np.float32), "pool_Q": self.Q}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, Any], seed: int) -> PoolForest:
        return cls(np.asarray(arrays["pool_X"]), np.asarray(arrays["pool_Q"]), seed)


def sample(items: tuple[str, ...], asked: IntArray, size: int = SAMPLE) -> IntArray:
    """At most `size` items of a pool and those that humans were `asked` about, in an order of their own.

    An item's name alone decides whether it is drawn: the order of the pool changes nothing.
    """
    draw = draws(items)
    drawn = np.argsort(draw, kind="stable")[:size]
    chosen = np.union1d(drawn, asked)
    names = np.array([items[n] for n in chosen], dtype=np.str_)
    return np.asarray(chosen[np.lexsort((names, draw[chosen]))], dtype=np.int64)


@lru_cache(maxsize=2)  # a round fits many mixtures on one pool
def draws(items: tuple[str, ...]) -> IntArray:
    """(N,) a number for each item by its name alone."""
    return np.array([crc32(name.encode("utf-8", "surrogatepass")) for name in items], dtype=np.int64)
