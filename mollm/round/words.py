"""The words of texts as one of the spaces that a round reads: what an encoder's mean over a text blurs.

A few function words, and how a text begins, tell some labels better than what it is about. They are learned from the
pool's texts without any label (`mollm.classifier.words`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from mollm.blas import one_thread
from mollm.classifier.words import MOST, WordEncoder
from mollm.records import FloatArray
from mollm.round.kinds import TINY, rounded


@dataclass(frozen=True)
class Words:
    """`encoder`, the place of a `usual` text (K,), and the root mean square of how far a text is from it."""

    encoder: WordEncoder
    usual: FloatArray
    size: float

    @classmethod
    def of(cls, texts: Sequence[str]) -> Self:
        """From a pool's texts, `MOST` of them at most, evenly spread."""
        texts = texts[:: 1 + len(texts) // MOST]
        with one_thread():
            encoder = WordEncoder().fit(texts)
            places = encoder.embed(texts)
        usual = rounded(places.mean(axis=0))
        size = np.sqrt(((places - usual) ** 2).sum(axis=1).mean())
        return cls(encoder, usual, max(float(np.float32(size)), TINY))

    def read(self, texts: Sequence[str]) -> FloatArray:
        """(n, K) of n texts, less the usual one, at a root mean square length of 1 in the pool."""
        return (self.encoder.embed(texts) - self.usual) / self.size

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What `from_arrays` reads."""
        return {**self.encoder.state().arrays, "usual": self.usual, "size": np.array([self.size])}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Raises ModelFileError or KeyError for one that is missing, ValueError for those that do not fit together."""
        encoder = WordEncoder.from_arrays(arrays)
        usual, size = (np.asarray(arrays[name], np.float64) for name in ("usual", "size"))
        if usual.shape != encoder.components_.shape[:1] or size.shape != (1,) or not (size > 0).all():
            raise ValueError("the words do not fit together")
        return cls(encoder, usual, float(size[0]))
