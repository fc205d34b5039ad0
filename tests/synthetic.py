"""Synthetic recordings: a panel whose accuracy, shared mistakes, class balance and texts are under control."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mollm.records import FloatArray, IntArray, LabelSet, Signals, Targets


@dataclass(frozen=True)
class Synthetic:
    """Signals of N items, their gold (N,) and, if asked for, text embeddings (N, D)."""

    signals: Signals
    gold: IntArray
    embeddings: FloatArray | None

    @property
    def labels(self) -> LabelSet:
        return LabelSet(self.signals.labels)

    def targets(self, human: int, seed: int = 0) -> Targets:
        asked = np.random.default_rng([seed, 1]).permutation(self.signals.N)[:human]
        return Targets.of(asked, self.gold[asked])


def synthetic(
    N: int = 300,
    accuracy: Sequence[float] = (0.8, 0.75, 0.7),
    priors: Sequence[float] = (0.4, 0.35, 0.25),
    *,
    correlation: float = 0.3,
    text: int = 0,
    samples: int = 10,
    seed: int = 0,
) -> Synthetic:
    """An annotator is right with its accuracy, else says the item's decoy (with `correlation`) or any other class.

    `label_probs` are peaked on what it says with random sharpness, `votes` are `samples` draws from them. `text`
    dimensions of embedding hold a noisy direction of the true class.
    """
    rng = np.random.default_rng(seed)
    C, M = len(priors), len(accuracy)
    gold = rng.choice(C, N, p=priors).astype(np.int64)
    decoy = (gold + rng.integers(1, C, N)) % C
    probs, votes = np.empty((N, M, C)), np.empty((N, M, C))
    for m, right in enumerate(accuracy):
        wrong = np.where(rng.random(N) < correlation, decoy, (gold + rng.integers(1, C, N)) % C)
        said = np.where(rng.random(N) < right, gold, wrong)
        logits = rng.normal(0, 1, (N, C))
        logits[np.arange(N), said] += rng.gamma(4.0, 1.0, N)
        probs[:, m] = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        votes[:, m] = rng.multinomial(samples, probs[:, m]) / samples
    embeddings = None
    if text:
        embeddings = rng.normal(size=(C, text))[gold] + rng.normal(0, 2.0, (N, text))
    signals = Signals(
        tuple(f"item-{n}" for n in range(N)), tuple(f"llm-{m}" for m in range(M)), tuple("abcdefgh"[:C]), probs, votes
    )
    return Synthetic(signals, gold, embeddings)
