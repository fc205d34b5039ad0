"""Calibration: one temperature, fitted to cross-fitted probabilities of the human-labelled items.

A temperature never changes which class is on top, so calibration cannot cost accuracy (Guo et al. 2017).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize_scalar

from mollm.mixture.evidence import softmax
from mollm.records import FloatArray, IntArray, Targets

PRIOR_SPREAD = 0.25
"""Standard deviation of log temperature before any label: few labels move it little."""
BINS = 15
"""Of the calibration error."""


def at_temperature(probs: FloatArray, temperature: float) -> FloatArray:
    """(N, C) probabilities made softer (temperature above 1) or sharper (below 1)."""
    return softmax(np.log(np.maximum(probs, 1e-12)) / temperature)


def temperature(held_out: FloatArray, targets: Targets) -> float:
    """The temperature for cross-fitted probabilities (H, C), shrunk to 1 while labels are few."""
    if not targets.H:
        return 1.0
    rows = np.arange(targets.H)

    def loss(log_t: float) -> float:
        probs = at_temperature(held_out, float(np.exp(log_t)))
        said = np.log(np.maximum(probs[rows, targets.label], 1e-12))
        return float(-(targets.weight * said).sum() + 0.5 * (log_t / PRIOR_SPREAD) ** 2)

    return float(np.exp(minimize_scalar(loss, bounds=(-1.5, 1.5), method="bounded").x))


def ece(probs: FloatArray, truth: IntArray, weight: FloatArray | None = None) -> float:
    """Expected calibration error of the top label over equal-width bins of its probability; NaN of no rows.

    `probs` (n, C), `truth` (n,), `weight` (n,) > 0 what each row counts (None: all the same).
    """
    if not len(probs):
        return float("nan")
    weight = np.ones(len(probs)) if weight is None else weight
    confidence, right = probs.max(axis=1), probs.argmax(axis=1) == truth
    place = np.minimum((confidence * BINS).astype(np.int64), BINS - 1)
    gap = np.bincount(place, weight * right, BINS) - np.bincount(place, weight * confidence, BINS)
    return float(np.abs(gap).sum() / weight.sum())
