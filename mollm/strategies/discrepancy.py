"""Discrepancy, our own strategy: the expected gain of a human label, with diversity.

A human label gains most if the calibrated prediction is undecided. It gains more if mixture, classifier and LLMs
disagree, because then it also shows which of them to trust. Items like one that was already picked teach little, so
each pick lowers the gain of its neighbours.
"""

from __future__ import annotations

import numpy as np

from mollm.records import FloatArray
from mollm.strategies import Picks, Pool, best
from mollm.strategies.margin import undecided

CANDIDATES = 20  # times the batch: open items of highest gain to pick from (chosen by hand: more is more diverse)
SHARPNESS = 8.0  # power of the cosine (chosen by hand: higher lowers only near copies, lower spreads picks more)


def expected_gain(pool: Pool) -> FloatArray:
    """(K,) for the open items, in 0..2: how undecided the calibrated prediction is, times 1 + the disagreement."""
    return undecided(pool.probs[pool.open]) * (1 + disagreement(pool))


def disagreement(pool: Pool) -> FloatArray:
    """(K,) in 0..1: the mean of the probability that the classifier gives to other labels than the mixture's, and the
    share of answering LLMs with another label than the mixture's. 0 if neither is known."""
    label = pool.probs[pool.open].argmax(axis=1)
    here = np.arange(len(label))
    parts: list[FloatArray] = []
    if pool.classifier is not None:
        parts.append(1 - pool.classifier[pool.open][here, label])
    if pool.panel is not None and pool.panel.shape[1]:
        votes = pool.panel[pool.open].argmax(axis=2) != label[:, None]
        answered = np.nan_to_num(pool.panel[pool.open]).sum(axis=2) > 0
        parts.append((votes & answered).sum(axis=1) / np.maximum(answered.sum(axis=1), 1))
    return np.mean(parts, axis=0) if parts else np.zeros(len(label))


def discrepancy(pool: Pool, batch: int, rng: np.random.Generator) -> Picks:
    """Greedy: pick the highest gain, then lower every candidate's gain by its similarity to the pick, and so on."""
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
