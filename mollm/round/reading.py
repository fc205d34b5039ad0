"""What a round reads of its texts' embeddings: two spaces side by side, learned from the pool without any label.

    fine    all layers but the last, along their main directions: how a text is put, as in the kind of a question
    broad   the last layer, each main direction once more as large as the pool is spread along it: what texts are about

Like texts lie together along the few directions in which a pool is spread most, so that a few labels there speak for
many texts (Chapelle, Weston and Schoelkopf 2002, "Cluster kernels for semi-supervised learning": a power of the
spectrum). What these directions do not tell apart, the fine ones do. Each space has the same root mean square length,
until human labels say which of them tells more (`share_of_fine`). Embeddings without layers are read in both ways.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy.special import softmax
from sklearn.utils.extmath import randomized_svd

from mollm.blas import one_thread
from mollm.classifier.head import Head
from mollm.errors import ModelFileError
from mollm.losses import Rows
from mollm.mixture.evidence import chunks
from mollm.records import BoolArray, FittedState, FloatArray, IntArray, Targets

FINE, BROAD = 256, 128
"""Directions at most (chosen by hand: twice or half as many change nothing on TREC, and fewer make a round faster)."""
SAMPLE = 4000
"""Texts, evenly spread over the pool, from which the directions are learned; more of them only cost time."""
SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
"""Of the squared length, that the fine space may have (chosen on TREC and BBC News; drug reviews asked for the lowest).
Neither is left out wholly."""
RIDGE = 0.3
"""On the head that compares the shares, as on the round's own head."""
MOST = 400
"""Human labels, the last, that compare the shares (chosen by hand: more only take longer)."""
SMALLEST = 1e-3
"""Of a layer's largest spread: a dimension that varies less is constant but for rounding, and is left out."""
TINY = 1e-12
"""So that a pool of equal texts, which has no direction, lies at the origin."""


@dataclass(frozen=True)
class Reading:
    """`centre` (D,) over all L layers; `fine` (first layers' D, K) and `broad` (last layer's D, K') are linear maps."""

    centre: FloatArray
    fine: FloatArray
    broad: FloatArray

    @classmethod
    def of(cls, embeddings: FloatArray, has_text: BoolArray) -> Self:
        """From a pool's embeddings (N, L, D) or (N, D); the rows without text have no part."""
        index = np.flatnonzero(has_text)
        x = np.asarray(embeddings[index[:: 1 + len(index) // SAMPLE]], dtype=np.float64)
        x = x if x.ndim == 3 else x[:, None]
        centre, spread = x.mean(axis=0), x.std(axis=0)
        factor = np.where(spread > SMALLEST * spread.max(axis=1, keepdims=True), 1 / np.maximum(spread, TINY), 0.0)
        scaled = (x - centre) * factor
        first = slice(0, -1) if x.shape[1] > 1 else slice(None)
        with one_thread():
            fine = factor[first].reshape(-1, 1) * _directions(scaled[:, first].reshape(len(x), -1), FINE, 0)
            broad = factor[-1][:, None] * _directions(scaled[:, -1], BROAD, 1)
        return cls(_stored(centre.ravel()), _stored(fine), _stored(broad))

    def read(self, embeddings: FloatArray) -> FloatArray:
        """(N, K + K') from (N, L, D) or (N, D). Raises ModelFileError for embeddings of another size."""
        if int(np.prod(embeddings.shape[1:])) != len(self.centre):
            raise ModelFileError(
                f"Texts were read as {len(self.centre)} numbers, not as {np.prod(embeddings.shape[1:])}: "
                "retrain, or restore the encoder."
            )
        out = np.empty((len(embeddings), self.fine.shape[1] + self.broad.shape[1]))
        for rows in chunks(len(embeddings)):
            x = flat(embeddings[rows]) - self.centre
            np.concatenate([x[:, : len(self.fine)] @ self.fine, x[:, -len(self.broad) :] @ self.broad], 1, out[rows])
        return out

    def weighed(self, share: float) -> Self:
        """The same, with so much of the squared length in the fine space (.5: as it was learned)."""
        fine, broad = self.fine * np.sqrt(2 * share), self.broad * np.sqrt(2 * (1 - share))
        return replace(self, fine=_stored(fine), broad=_stored(broad))

    def state(self) -> FittedState:
        """Three arrays, in single precision."""
        arrays = {"centre": self.centre, "fine": self.fine, "broad": self.broad}
        return FittedState("reading", {name: value.astype(np.float32) for name, value in arrays.items()})

    @classmethod
    def from_state(cls, state: FittedState | None) -> Self:
        """Raises ModelFileError where there is none, or one with missing or bent arrays."""
        try:
            arrays = {} if state is None else state.arrays
            centre, fine, broad = (np.asarray(arrays[name], np.float64) for name in ("centre", "fine", "broad"))
        except (KeyError, TypeError, ValueError) as error:
            raise ModelFileError(f"This version does not tell how it reads texts ({error!r}): train again.") from None
        if fine.ndim != 2 or broad.ndim != 2 or max(len(fine), len(broad)) > len(centre):
            raise ModelFileError("What this version tells of how it reads texts does not fit together: train again.")
        return cls(centre, fine, broad)


def share_of_fine(reading: Reading, x: FloatArray, targets: Targets, fold: IntArray, C: int) -> float:
    """The share of the squared length that the fine space should have, by the human labels.

    `x` (N, K + K') is what `reading` read, `fold` (N,) each item's fold, `C` the number of classes. A head on the
    labelled texts alone is cross-fitted with each of `SHARES`; the mean share counts each by the likelihood of the
    held-out labels, so that few labels leave it near one half. So the labels of a fold have a part in this one number,
    and in nothing else that scores them.
    """
    targets = targets.take(np.arange(targets.H)[-MOST:])
    if len(np.unique(targets.label)) < 2:
        return 0.5
    fold, losses = fold[targets.index], np.zeros(len(SHARES))
    spaces = [reading.fine.shape[1], reading.broad.shape[1]]
    for n, share in enumerate(SHARES):
        there = x[targets.index] * np.repeat(np.sqrt([2 * share, 2 * (1 - share)]), spaces)
        for k in np.unique(fold):
            seen, held = np.flatnonzero(fold != k), np.flatnonzero(fold == k)
            if len(seen):
                nothing = np.zeros((len(seen), C), dtype=np.bool_)
                rows = Rows(np.arange(len(seen)), targets.label[seen], targets.weight[seen], nothing)
                said = Head(C, ridge=RIDGE, each=False).fit(there[seen], rows).predict_proba(there[held])
                losses[n] -= targets.weight[held] @ np.log(said[np.arange(len(held)), targets.label[held]])
    return float(softmax(-losses) @ SHARES)


def flat(embeddings: FloatArray) -> FloatArray:
    """(N, L * D) from (N, L, D); (N, D) as it is."""
    return embeddings.reshape(len(embeddings), -1)


def _directions(x: FloatArray, most: int, power: int) -> FloatArray:
    """(D, K): the main directions of `x` (n, D), so that x @ them has a root mean square length of sqrt(1/2).

    Each is as long as `x` is spread along it, to the `power`.
    """
    found = randomized_svd(x, min(most, *x.shape), n_iter=4, random_state=0)
    spread, directions = np.asarray(found[1]), np.asarray(found[2])
    weight = (spread / max(float(spread.max(initial=0.0)), TINY)) ** power
    length = np.sqrt(2 * ((spread * weight) ** 2).sum() / len(x))
    return np.asarray(directions.T * (weight / max(float(length), TINY)))


def _stored(values: FloatArray) -> FloatArray:
    """As it is after it was saved, so that a text is read alike within its round and later."""
    return values.astype(np.float32).astype(np.float64)
