"""Made-up pools of any size, for measuring speed: a panel's answers, texts, and the models that a strategy asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import softmax

from mollm.records import FloatArray, IntArray, Signals
from mollm.strategies import MEMBERS, Candidates

SAMPLES = 10  # votes an annotator gives for an item: the T of the recordings
RIGHT = (0.77, 0.75, 0.70, 0.68, 0.65)  # how often each annotator is right, over and over for a larger panel
LABELS = 6  # of a strategy's pool: as many as TREC has


def panel(N: int, M: int, C: int, rng: np.random.Generator) -> tuple[Signals, IntArray]:
    """A panel whose annotators err each on their own, and the gold (N,)."""
    gold = rng.integers(0, C, N)
    probs, votes = np.empty((N, M, C)), np.empty((N, M, C))
    for m in range(M):
        answer = np.where(rng.random(N) < RIGHT[m % len(RIGHT)], gold, rng.integers(0, C, N))
        logits = rng.standard_normal((N, C))
        logits[np.arange(N), answer] += rng.gamma(4.0, 1.0, N)
        probs[:, m] = softmax(logits, axis=1)
        votes[:, m] = rng.multinomial(SAMPLES, probs[:, m]) / SAMPLES
    names = tuple(f"llm-{m}" for m in range(M))
    return Signals(tuple(map(str, range(N))), names, tuple(f"label-{c}" for c in range(C)), probs, votes), gold


def text(gold: IntArray, C: int, D: int, rng: np.random.Generator) -> FloatArray:
    """(N, D) single precision, as an encoder gives: each class's own direction under much noise."""
    found = rng.standard_normal((len(gold), D), dtype=np.float32)
    own = 0.15 * rng.standard_normal((C, D), dtype=np.float32)
    for c in range(C):
        found[gold == c] += own[c]
    return found  # type: ignore[return-value]


@dataclass(frozen=True)
class MadeUpTexts:
    """Gives the made-up `embeddings` (N, D) for the N texts of the pool, in their order."""

    embeddings: FloatArray

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """(N, D)."""
        assert len(texts) == len(self.embeddings)
        return self.embeddings


def pool(N: int, D: int, labelled: int, seed: int, *, perturbed: bool) -> Candidates:
    """Embeddings (N, D) float32, probabilities (N, C), and, where asked for, ten perturbed models."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, D), dtype=np.float32)
    logits = rng.standard_normal((N, LABELS)) * 2
    members = softmax(logits + rng.standard_normal((MEMBERS if perturbed else 0, N, LABELS)) / 2, axis=-1)
    probs = softmax(logits, axis=-1)
    return Candidates(probs, np.arange(labelled, N), np.arange(labelled), embed=lambda: x, sample=lambda *_: members)
