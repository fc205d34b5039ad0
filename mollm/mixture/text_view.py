"""What the text says of the panel: a ridge from text embeddings to the mixture's own posterior over the pool.

LLMs err item by item, but items with like texts have like labels; a linear view of the text, fitted to what the
mixture believes of the *whole pool*, averages those errors out. It joins the panel as one more signal
(co-training, Blum & Mitchell 1998), so the human labels decide what it is worth.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from mollm.mixture.evidence import chunks
from mollm.records import FloatArray, IntArray

RIDGE = 3.0
"""On the view's matrix, against a sum over the pool's scaled embeddings (flat between 1 and 10 on TREC)."""
FLOOR = 0.02
"""A ridge score is no probability and may be negative; below this it says no more."""
SCALE = 5.0
"""So that one shared prior weight fits this signal and an LLM's: it is softer, and stands for the whole text."""


@dataclass(frozen=True)
class Space:
    """A pool's embeddings about their mean `centre` (D,), divided by `spread` (), their root mean square length.

    One ridge then means the same for any encoder. An item without text (a row of NaN) lies at the origin.
    """

    centre: FloatArray
    spread: FloatArray

    @classmethod
    def of(cls, embeddings: FloatArray) -> Self:
        total, square, count = np.zeros(embeddings.shape[1]), 0.0, 0
        for rows in chunks(len(embeddings)):
            E = np.asarray(embeddings[rows], dtype=np.float64)
            E = E[~np.isnan(E).any(axis=1)]
            total, square, count = total + E.sum(axis=0), square + float((E**2).sum()), count + len(E)
        centre = total / max(count, 1)
        variance = max(square / max(count, 1) - float((centre**2).sum()), 1e-12)
        return cls(centre, np.array(np.sqrt(variance)))

    def place(self, embeddings: FloatArray) -> FloatArray:
        """(n, D) centred and scaled."""
        return np.nan_to_num((np.asarray(embeddings, dtype=np.float64) - self.centre) / self.spread)

    def project(self, embeddings: FloatArray, matrix: FloatArray) -> FloatArray:
        """place(embeddings) @ matrix (n, C), without a placed copy of a whole pool."""
        there, known = _known(embeddings)
        return np.asarray((known @ matrix - self.centre @ matrix) / self.spread * there)

    def moment(self, embeddings: FloatArray, residual: FloatArray) -> FloatArray:
        """place(embeddings).T @ residual (D, C), likewise."""
        there, known = _known(embeddings)
        counted = residual * there
        return np.asarray((known.T @ counted - np.outer(self.centre, counted.sum(axis=0))) / self.spread)


def _known(embeddings: FloatArray) -> tuple[FloatArray, FloatArray]:
    """(n, 1) 1.0 where there is a text, and the embeddings with zeros where there is none."""
    missing = np.isnan(embeddings[:, :1])
    return 1.0 - missing, np.nan_to_num(embeddings) if missing.any() else embeddings


@dataclass(frozen=True)
class Gram:
    """What a pool's embeddings alone decide, made once for all fits on that pool: `inverse` (D, D)."""

    space: Space
    inverse: FloatArray

    @classmethod
    def of(cls, embeddings: FloatArray) -> Self:
        space = Space.of(embeddings)
        D = len(space.centre)
        total = RIDGE * np.eye(D)
        for rows in chunks(len(embeddings)):
            E = space.place(embeddings[rows])
            total += E.T @ E
        return cls(space, np.asarray(np.linalg.inv(total), dtype=np.float64))


@dataclass(frozen=True)
class TextView:
    """`matrix` (D, C), `share` (C,) the pool's mean posterior, `offset` (C,) the pool's mean log-odds."""

    matrix: FloatArray
    share: FloatArray
    offset: FloatArray

    def log_odds(self, projected: FloatArray) -> FloatArray:
        """(n, 1, C) what texts say on their own, as centred log-odds, from `space.project(embeddings, matrix)`.

        Exactly zero is a row without text, and says nothing.
        """
        there = projected.any(axis=1, keepdims=True)
        return ((_log_odds(projected + self.share) - self.offset) * there * SCALE)[:, None, :]

    def left_out(self, E: FloatArray, posterior: FloatArray, gram: Gram) -> FloatArray:
        """(n, 1, C) the same for placed items of the pool, each by the ridge fitted without it (exact).

        A human label must not speak a second time through its own item's text.
        """
        leverage = ((E @ gram.inverse) * E).sum(axis=1, keepdims=True)
        own = leverage * (posterior - self.share) * E.any(axis=1, keepdims=True)
        return self.log_odds((E @ self.matrix - own) / np.maximum(1.0 - leverage, 1e-6))


def _log_odds(scores: FloatArray) -> FloatArray:
    logs = np.log(np.maximum(scores, FLOOR))
    return np.asarray(logs - logs.mean(axis=1, keepdims=True))


def fit(embeddings: FloatArray, posterior: FloatArray, gram: Gram) -> TextView:
    """The ridge of `posterior` (N, C) on `embeddings` (N, D)."""
    share = posterior.mean(axis=0)
    moment = np.zeros((len(gram.inverse), posterior.shape[1]))
    for rows in chunks(len(embeddings)):
        moment += gram.space.moment(embeddings[rows], posterior[rows] - share)
    matrix = gram.inverse @ moment
    total = np.zeros(posterior.shape[1])
    for rows in chunks(len(embeddings)):
        total += _log_odds(gram.space.project(embeddings[rows], matrix) + share).sum(axis=0)
    return TextView(matrix, share, total / len(embeddings))


def clamped(posterior: FloatArray, index: IntArray, Y: FloatArray, weight: FloatArray) -> FloatArray:
    """A copy of the pool's posterior (N, C) with the human-labelled items set to what their humans said."""
    total = np.zeros_like(posterior)
    np.add.at(total, index, Y * weight[:, None])
    asked = total.sum(axis=1) > 0
    out = posterior.copy()
    out[asked] = total[asked] / total[asked].sum(axis=1, keepdims=True)
    return out
