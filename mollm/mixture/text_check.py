"""How well texts explain answers, without any label: answers that follow the texts are no coin tosses.

    consistency = agreement beyond chance of an item's answer with what the other items' answers say of its text

What the others say of a text is a ridge from text embeddings to answers, each item left out of its own fit (exactly).
Mistakes that an LLM makes at random cannot be told from the text, so that the answers of a better one can be told
better. A rule that follows the text but answers another question is consistent too: this alone is no proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from mollm.blas import one_thread
from mollm.mixture.evidence import one_hot
from mollm.mixture.pool_forest import sample
from mollm.mixture.text_view import Gram
from mollm.records import FloatArray, IntArray, Pool

SAMPLE = 3_000
"""Items that are read: more change no share by a tenth (TREC), and the time stays at about a second."""


@dataclass(frozen=True)
class TextCheck:
    """The texts of some items of a pool: `items` (n,) their places, `E` (n, D) placed embeddings, `leverage` (n, 1)."""

    items: IntArray
    E: FloatArray
    inverse: FloatArray
    leverage: FloatArray

    @classmethod
    def of(cls, pool: Pool) -> Self | None:
        """At most `SAMPLE` items, one a text; None where the pool has no texts."""
        if pool.embeddings is None:
            return None
        named = np.argsort(np.array(pool.signals.items, dtype=np.str_), kind="stable")
        _, first = np.unique(np.array(pool.group_names, dtype=np.str_)[named], return_index=True)
        told = named[first][~np.isnan(pool.embeddings[named[first]]).any(axis=1)]
        if not len(told):
            return None
        names = tuple(pool.signals.items[n] for n in told)
        items = told[sample(names, np.empty(0, dtype=np.int64), SAMPLE)]
        with one_thread():
            gram = Gram.of(pool.embeddings[items])
            E = gram.space.place(pool.embeddings[items])
            leverage = ((E @ gram.inverse) * E).sum(axis=1, keepdims=True)
        return cls(items, E, gram.inverse, leverage)

    def told(self, said: IntArray, C: int) -> IntArray:
        """(n,) the label that the other items' answers `said` (n,) give each text; an answer of -1 is none."""
        Y = one_hot(np.maximum(said, 0), C) * (said >= 0)[:, None]
        share = Y.mean(axis=0)
        with one_thread():
            fitted = self.E @ (self.inverse @ (self.E.T @ (Y - share)))
        left_out = (fitted - self.leverage * (Y - share)) / np.maximum(1 - self.leverage, 1e-6)
        return np.asarray((left_out + share).argmax(axis=1))
