"""Calibration: one temperature, fitted to cross-fitted probabilities of the human-labelled items, or to a sureness.

A temperature never changes which class is on top, so calibration cannot cost accuracy (Guo et al. 2017).
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq, minimize_scalar
from scipy.special import softmax

from mollm.metrics import SMALLEST, log_losses
from mollm.records import FloatArray, Targets

PRIOR_SPREAD = 0.25
"""Standard deviation of log temperature before any label: few labels move it little."""
FURTHEST = 1.5
"""Of log temperature from 0: what asks for more is not a matter of temperature."""


def at_temperature(probs: FloatArray, temperature: float) -> FloatArray:
    """(N, C) probabilities made softer (temperature above 1) or sharper (below 1)."""
    return np.asarray(softmax(np.log(np.maximum(probs, SMALLEST)) / temperature, axis=-1))


def temperature(held_out: FloatArray, targets: Targets) -> float:
    """The temperature for cross-fitted probabilities (H, C), shrunk to 1 while labels are few."""
    if not targets.H:
        return 1.0

    def loss(log_t: float) -> float:
        losses = log_losses(at_temperature(held_out, float(np.exp(log_t))), targets.label)
        return float(targets.weight @ losses + 0.5 * (log_t / PRIOR_SPREAD) ** 2)

    return float(np.exp(minimize_scalar(loss, bounds=(-FURTHEST, FURTHEST), method="bounded").x))


def as_sure(probs: FloatArray, sure: float) -> float:
    """The temperature at which the highest probabilities of `probs` (N, C) have the mean `sure`, as near as one can."""

    def more(log_t: float) -> float:
        return float(at_temperature(probs, float(np.exp(log_t))).max(axis=-1).mean()) - sure

    if more(-FURTHEST) <= 0:
        return float(np.exp(-FURTHEST))
    if more(FURTHEST) >= 0:
        return float(np.exp(FURTHEST))
    return float(np.exp(brentq(more, -FURTHEST, FURTHEST)))
