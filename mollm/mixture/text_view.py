"""What the text says of the panel: a ridge from text embeddings to the panel's own posterior over the pool.

LLMs err item by item, but items with like texts have like labels; a linear view of the text, fitted to what the
mixture believes of the *whole pool*, averages those errors out. It joins the panel as one more
signal (co-training in one step, no loop; Blum & Mitchell 1998), so human labels decide what it is worth.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mollm.mixture.evidence import chunks
from mollm.records import FloatArray, IntArray

RIDGE = 3.0
"""Against a sum over unit-norm embeddings of the pool (flat between .3 and 10 on TREC)."""
FLOOR = 0.02
SCALE = 5.0
"""So that one shared prior weight fits this signal and an LLM's: it is softer, and stands for the whole text."""


@dataclass(frozen=True)
class Gram:
    """What a pool's embeddings alone decide; made once for all fits on that pool."""

    centre: FloatArray
    inverse: FloatArray

    @classmethod
    def of(cls, embeddings: FloatArray) -> Gram:
        centre = np.asarray(embeddings.mean(axis=0), dtype=np.float64)
        total = np.zeros((len(centre), len(centre)))
        for rows in chunks(len(embeddings)):
            E = embeddings[rows] - centre
            total += E.T @ E
        inverse = np.linalg.inv(total + RIDGE * np.eye(len(centre)))
        return cls(centre, np.asarray(inverse, dtype=np.float64))


@dataclass(frozen=True)
class TextView:
    """`centre` (D,), `matrix` (D, C), `share` (C,) mean posterior, `offset` (C,) pool mean of the log-odds."""

    centre: FloatArray
    matrix: FloatArray
    share: FloatArray
    offset: FloatArray

    def centred(self, embeddings: FloatArray) -> FloatArray:
        """(n, D) embeddings about the pool's mean."""
        return np.asarray(embeddings - self.centre, dtype=np.float64)

    def log_odds(self, embeddings: FloatArray) -> FloatArray:
        """(n, 1, C) what the text alone says, as centred log-odds."""
        return self._signal(self.centred(embeddings) @ self.matrix + self.share)

    def left_out(self, embeddings: FloatArray, posterior: FloatArray, gram: Gram) -> FloatArray:
        """(n, 1, C) the same for items of the pool, each by the ridge fitted without it (exact).

        A human label must not speak through its own item's text as well.
        """
        E = self.centred(embeddings)
        leverage = ((E @ gram.inverse) * E).sum(axis=1, keepdims=True)
        residual = posterior - self.share
        without = (E @ self.matrix - leverage * residual) / np.maximum(1.0 - leverage, 1e-6)
        return self._signal(without + self.share)

    def _signal(self, scores: FloatArray) -> FloatArray:
        return (_log_odds(scores) - self.offset)[:, None, :] * SCALE


def _log_odds(scores: FloatArray) -> FloatArray:
    logs = np.log(np.maximum(scores, FLOOR))
    return np.asarray(logs - logs.mean(axis=1, keepdims=True))


def fit(embeddings: FloatArray, posterior: FloatArray, gram: Gram) -> TextView:
    """The ridge of `posterior` (N, C) on `embeddings` (N, D)."""
    share = posterior.mean(axis=0)
    moment = np.zeros((len(gram.centre), posterior.shape[1]))
    for rows in chunks(len(embeddings)):
        moment += (embeddings[rows] - gram.centre).T @ (posterior[rows] - share)
    matrix = gram.inverse @ moment
    total = np.zeros(posterior.shape[1])
    for rows in chunks(len(embeddings)):
        total += _log_odds((embeddings[rows] - gram.centre) @ matrix + share).sum(axis=0)
    return TextView(gram.centre, matrix, share, total / len(embeddings))


def clamped(posterior: FloatArray, index: IntArray, Y: FloatArray, weight: FloatArray) -> FloatArray:
    """A copy of the pool's posterior (N, C) with the human-labelled items set to what their humans said."""
    total = np.zeros_like(posterior)
    np.add.at(total, index, Y * weight[:, None])
    asked = total.sum(axis=1) > 0
    out = posterior.copy()
    out[asked] = total[asked] / total[asked].sum(axis=1, keepdims=True)
    return out
