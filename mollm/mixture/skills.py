"""What each annotator is worth before any label: how far it agrees with the others, beyond chance.

    agreement[i, j] = (same[i, j] - chance[i, j]) / (1 - chance[i, j])  ~  skill[i] * skill[j]
    share[m]        ~  skill[m] / (1 - skill[m] ** 2)

The product holds where the annotators' mistakes are independent (Parisi et al. 2014, doi 10.1073/pnas.1219097111): then
the skills are the one factor of the agreements. LLMs make some mistakes together, so the shares are drawn towards equal
ones, and the more the fewer items there are. What agrees only in its mistakes cannot be told from what is right: two
annotators that fail on the same items are trusted too much, as they are in the equal pool.
"""

from __future__ import annotations

import numpy as np

from mollm.mixture.evidence import Centring, chunks
from mollm.records import FloatArray, IntArray, Signals

FEWEST = 3
"""Annotators: two agree with each other equally, so that nothing tells which of them is right."""
TRUST, HALF = 0.6, 150.0
"""The part of the estimated shares beside equal ones for many items, and the items at which it is half of that.
Chosen on all panels of 3-5 of both recordings, and on panels with degraded members (seeds 0-9): most of the gain, and
no whole panel falls by .005 against equal shares."""
LEAST, MOST = 0.05, 0.97
"""Bounds of a skill: below, an annotator still says something; above, its share would have no end."""
STEPS = 200  # at most, of the one factor; 20 are usual


def shares(signals: Signals, centring: Centring) -> FloatArray:
    """(M,) weights, annotators by name, of mean 1 over those that say anything; 1 for the others."""
    found, said = np.ones(signals.M), answers(signals, centring)
    speak = np.flatnonzero((said >= 0).any(axis=0))
    if len(speak) >= FEWEST:
        agreement, both = agreements(said[:, speak], signals.C)
        skill = np.clip(one_factor(agreement), LEAST, MOST)
        weight = skill / (1 - skill**2)
        seen = float(both[~np.eye(len(speak), dtype=np.bool_)].min())
        found[speak] += TRUST * seen / (seen + HALF) * (weight / weight.mean() - 1)
    return found


def answers(signals: Signals, centring: Centring) -> IntArray:
    """(N, M) each annotator's most probable label after centring; -1 where it says nothing."""
    found = np.empty((signals.N, signals.M), dtype=np.int64)
    for rows in chunks(signals.N):
        odds = centring.log_odds(signals, rows)
        both = odds[:, : signals.M] + odds[:, signals.M :]
        found[rows] = np.where(np.abs(both).max(axis=2) > 0, both.argmax(axis=2), -1)
    return found


def agreements(said: IntArray, C: int) -> tuple[FloatArray, FloatArray]:
    """((M, M) agreement beyond chance with 1 on the diagonal, (M, M) the items on which both say something)."""
    M = said.shape[1]
    agreement, count = np.eye(M), np.zeros((M, M))
    for i in range(M):
        for j in range(i):
            mine, other = (said[(said[:, i] >= 0) & (said[:, j] >= 0), m] for m in (i, j))
            n = max(len(mine), 1)
            chance = float(np.bincount(mine, minlength=C) @ np.bincount(other, minlength=C)) / n**2
            if len(mine) and chance < 1:
                agreement[i, j] = agreement[j, i] = (float((mine == other).mean()) - chance) / (1 - chance)
            count[i, j] = count[j, i] = len(mine)
    return agreement, count


def one_factor(R: FloatArray) -> FloatArray:
    """(M,) the vector whose outer product fits the (M, M) matrix `R` best off its diagonal (principal factor)."""
    M = len(R)
    own, loading = np.full(M, 0.5), np.zeros(M)
    for _ in range(STEPS):
        reduced = R.copy()
        reduced[np.arange(M), np.arange(M)] = own
        values, vectors = np.linalg.eigh(reduced)
        loading = vectors[:, -1] * np.sqrt(max(values[-1], 0.0))
        loading = loading if loading.sum() >= 0 else -loading
        fresh = np.minimum(loading**2, MOST)
        if np.abs(fresh - own).max() < 1e-9:
            break
        own = fresh
    return np.asarray(loading)
