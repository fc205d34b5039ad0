"""Who is surer where two disagree, without any label: each annotator's confidence is held against its own usual one.

    P(i is surer than j | they disagree)  =  1 / (1 + exp(worth[j] - worth[i]))        (Bradley and Terry 1952)

Where two disagree one at least is wrong, and who is often wrong is unsure there more often, for an LLM's confidence
follows its being right. Confidence counts by its rank among the annotator's own answers, so that no LLM gains by being
loud. Where confidence says nothing, nobody wins.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

from mollm.records import FloatArray, IntArray

RIDGE = 5.0
"""On the worths: as if each pair had disagreed some ten times more and nobody had won."""
STEPS, SMALLEST_STEP = 50, 1e-9  # of Newton's method; 5 are usual


def ranks(margins: FloatArray, said: IntArray) -> FloatArray:
    """(N, M) in 0..1: how sure each answer is among those of its annotator. `margins` (N, M) of log-odds, nats."""
    found = np.zeros(margins.shape)
    for m in range(margins.shape[1]):
        spoke = said[:, m] >= 0
        found[spoke, m] = rankdata(margins[spoke, m]) / max(1, int(spoke.sum()))
    return found


def worths(margins: FloatArray, said: IntArray) -> FloatArray:
    """(M,) nats, of mean 0, from the annotators' answers (N, M), -1 for none."""
    M, rank = said.shape[1], ranks(margins, said)
    won = np.zeros((M, M))
    for i in range(M):
        for j in range(M):
            duel = (said[:, i] != said[:, j]) & (said[:, i] >= 0) & (said[:, j] >= 0)
            mine, other = rank[duel, i], rank[duel, j]
            won[i, j] = float((mine > other).sum()) + 0.5 * float((mine == other).sum())
    np.fill_diagonal(won, 0.0)
    count = won + won.T
    found: FloatArray = np.zeros(M)
    for _ in range(STEPS):
        expected = 1 / (1 + np.exp(found[None, :] - found[:, None]))
        slope = won.sum(axis=1) - (count * expected).sum(axis=1) - RIDGE * found
        curve = count * expected * (1 - expected)
        step = np.linalg.solve(np.diag(curve.sum(axis=1)) - curve + RIDGE * np.eye(M), slope)
        found = found + step
        if np.abs(step).max() < SMALLEST_STEP:
            break
    return found
