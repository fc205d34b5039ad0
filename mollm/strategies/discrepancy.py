"""Discrepancy, ours: the expected gain of a human label, spread over the pool.

A human label is worth most where the calibrated prediction is most likely wrong or undecided, and more so where the
mixture, the classifier and the LLMs contradict each other, because there the label also teaches which of them to
believe. Near copies of an item already picked teach little: each pick lowers the gain of its neighbours.
"""

from __future__ import annotations

import numpy as np

from mollm.records import FloatArray
from mollm.strategies import Picks, Pool, best
from mollm.strategies.margin import undecided

CANDIDATES = 20  # times the batch: the open items of highest gain among which diversity chooses
SHARPNESS = 8.0  # how quickly a neighbour's gain recovers with distance


def expected_gain(pool: Pool) -> FloatArray:
    """(K,) for the open items, in 0..2: how undecided the calibrated prediction is, raised by disagreement."""
    return undecided(pool.probs[pool.open]) * (1 + disagreement(pool))


def disagreement(pool: Pool) -> FloatArray:
    """(K,) in 0..1: how much probability the classifier and each LLM put elsewhere than on the mixture's label."""
    label = pool.probs[pool.open].argmax(axis=1)
    here = np.arange(len(label))
    parts: list[FloatArray] = []
    if pool.classifier is not None:
        parts.append(1 - pool.classifier[pool.open][here, label])
    if pool.panel is not None and pool.panel.shape[1]:
        votes = pool.panel[pool.open].argmax(axis=2) != label[:, None]
        said = np.nan_to_num(pool.panel[pool.open]).sum(axis=2) > 0
        parts.append((votes & said).sum(axis=1) / np.maximum(said.sum(axis=1), 1))
    return np.mean(parts, axis=0) if parts else np.zeros(len(label))


def discrepancy(pool: Pool, batch: int, rng: np.random.Generator) -> Picks:
    """Greedy: the best remaining gain, then every candidate's gain falls by its similarity to the pick."""
    candidates = best(pool.open, expected_gain(pool), batch * CANDIDATES, rng)
    if len(candidates.index) <= 1:
        return candidates
    x = pool.embeddings()[candidates.index]
    x = x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
    gain = candidates.gain.copy()
    taken = np.zeros(len(gain), dtype=np.bool_)
    chosen, worth = [], []
    for _ in range(min(batch, len(gain))):
        at = int(np.where(taken, -np.inf, gain).argmax())
        taken[at] = True
        chosen.append(at)
        worth.append(float(gain[at]))
        gain *= 1 - np.clip(x @ x[at], 0, 1) ** SHARPNESS
    return Picks(candidates.index[chosen], np.array(worth))
