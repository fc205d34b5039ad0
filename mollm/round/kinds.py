"""Kinds of texts: how a text lies between the middles of a pool that was parted without any label, several times.

Texts of one kind lie together, so that one label there speaks for many (the cluster assumption: Chapelle, Weston and
Schoelkopf 2002; several partings side by side: Weston et al. 2005, "Semi-supervised protein classification using
cluster kernels"). Nobody knows how many kinds there are, so that few and many stand side by side; where labels do not
follow them, the head and `mollm.round.reading` leave them to the other spaces.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.distance import cdist
from scipy.special import softmax
from sklearn.cluster import KMeans

from mollm.blas import one_thread
from mollm.records import FloatArray, IntArray

COUNTS = (4, 8, 16, 32)
"""Kinds of each parting (chosen on BBC News, drug reviews and TREC)."""
TIMES = 2
"""Partings with each count: another start finds others (chosen by hand: more only take longer)."""
FEWEST = 5
"""Different texts for each kind, at least: with fewer a pool is not parted into so many."""
SOFT = 0.4
"""Of the usual squared distance to the nearest middle: how much farther a middle may be at e times less weight (chosen
on the same pools; half and twice as much cost little)."""
TINY = 1e-12
"""So that equal texts, which lie at their middle, have no distance to divide by."""


@dataclass(frozen=True)
class Kinds:
    """`middles` (M, K), those of each parting together, of `counts` (P,); `width` (P,) the usual squared distances;
    `usual` (M,) the mean weights; `size`, the root mean square of how far a text's weights are from them.
    """

    middles: FloatArray
    counts: IntArray
    width: FloatArray
    usual: FloatArray
    size: float

    @classmethod
    def of(cls, x: FloatArray) -> Self:
        """From places (n, K) of a pool's texts; none where they are few."""
        different = len(np.unique(x.astype(np.float32), axis=0))
        counts = [count for count in COUNTS if count * FEWEST <= different for _ in range(TIMES)]
        middles, width = [np.zeros((0, x.shape[1]))], []
        with one_thread():
            for seed, count in enumerate(counts):
                found = KMeans(count, n_init=1, random_state=seed).fit(x)
                middles.append(found.cluster_centers_)
                width.append(max(float(found.inertia_) / len(x), TINY))
        stored = rounded(np.concatenate(middles))
        bare = cls(stored, np.array(counts, np.int64), rounded(np.array(width)), np.zeros(len(stored)), 1.0)
        weights = bare.read(x)
        usual = rounded(weights.mean(axis=0))
        size = np.sqrt(((weights - usual) ** 2).sum(axis=1).mean())
        return replace(bare, usual=usual, size=max(float(np.float32(size)), TINY))

    def read(self, x: FloatArray) -> FloatArray:
        """(n, M) from (n, K): the weights of the middles, less the usual ones, at a root mean square length of 1."""
        away = cdist(x, self.middles, "sqeuclidean")
        out, start = np.empty(away.shape), 0
        for count, width in zip(self.counts, self.width, strict=True):
            here = slice(start, start := start + int(count))
            out[:, here] = softmax(-away[:, here] / (SOFT * width), axis=1)
        return (out - self.usual) / self.size

    def arrays(self) -> dict[str, FloatArray]:
        """What `from_arrays` reads."""
        return {
            "middles": self.middles, "counts": self.counts.astype(np.float64), "width": self.width,
            "usual": self.usual, "size": np.array([self.size]),
        }  # fmt: skip

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Raises KeyError for one that is missing, ValueError for those that do not fit together."""
        middles, counts, width, usual, size = (
            np.asarray(arrays[name], np.float64) for name in ("middles", "counts", "width", "usual", "size")
        )
        together = counts.shape == width.shape and middles.ndim == 2 and counts.sum() == len(middles) == len(usual)
        if not together or size.shape != (1,) or not (size > 0).all() or not (width > 0).all():
            raise ValueError("the kinds do not fit together")
        return cls(middles, counts.astype(np.int64), width, usual, float(size[0]))


def rounded(values: FloatArray) -> FloatArray:
    """As it is after it was saved, so that a text is read alike within its round and later."""
    return values.astype(np.float32).astype(np.float64)
