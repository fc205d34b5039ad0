"""Scores of probabilities against labels, and 95 % intervals of shares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv

from mollm.records import FloatArray, IntArray, Targets

Z = 1.959963984540054  # the normal distribution's 97.5 % point
SMALLEST = 1e-12  # a probability below this counts as this: its logarithm would be infinite
BINS = 15  # of the calibration error: the usual number (Guo et al. 2017)


@dataclass(frozen=True, slots=True)
class Estimate:
    """A figure with its 95 % interval, from `low` to `high`."""

    value: float
    low: float
    high: float

    def line(self, digits: int = 2) -> str:
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


def wilson(share: float, n: float) -> Estimate:
    """A share seen in `n` independent trials (effective numbers may be fractions; 0: 0 to 1). Wilson 1927."""
    if n <= 0:
        return Estimate(share, 0.0, 1.0)
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * (share * (1 - share) / n + Z**2 / (4 * n**2)) ** 0.5
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half))


def newcombe(first: Estimate, second: Estimate) -> Estimate:
    """`first` minus `second`, two independent shares with their Wilson intervals (Newcombe 1998, method 10)."""
    difference = first.value - second.value
    low = ((first.value - first.low) ** 2 + (second.high - second.value) ** 2) ** 0.5
    high = ((first.high - first.value) ** 2 + (second.value - second.low) ** 2) ** 0.5
    return Estimate(difference, max(-1.0, difference - low), min(1.0, difference + high))


def beta(successes: float, failures: float) -> Estimate:
    """Mean and central 95 % of a Beta distribution: a share after so many (pseudo-)counts, both above 0."""
    low, high = (float(betaincinv(successes, failures, tail)) for tail in (0.025, 0.975))
    return Estimate(successes / (successes + failures), low, high)


def log_losses(probs: FloatArray, label: IntArray) -> FloatArray:
    """(n,) nats: the negative log-probability that `probs` (n, C) give to the labels (n,)."""
    return np.asarray(-np.log(np.maximum(probs[np.arange(len(label)), label], SMALLEST)))


def log_loss(probs: FloatArray, targets: Targets) -> float:
    """Mean negative log-probability (nats) of the human labels under `probs` (H, C), by their weights."""
    return float(np.average(log_losses(probs, targets.label), weights=targets.weight))


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


def scores(probs: FloatArray, targets: Targets) -> dict[str, float]:
    """`log_loss` (nats), `accuracy`, `ece` of held-out `probs` (H, C), by the labels' weights; empty without labels."""
    if not targets.H:
        return {}
    right = probs.argmax(axis=1) == targets.label
    return {
        "log_loss": log_loss(probs, targets),
        "accuracy": float(np.average(right, weights=targets.weight)),
        "ece": ece(probs, targets.label, targets.weight),
    }


def clearly_lower(one: FloatArray, other: FloatArray, targets: Targets, errors: float) -> bool:
    """Whether the log-loss of `one` (H, C) is lower than that of `other` by more than so many standard errors.

    The comparison is paired: label by label, on the same H human labels.
    """
    gain = log_losses(other, targets.label) - log_losses(one, targets.label)
    share = targets.weight / targets.weight.sum()
    mean = float((share * gain).sum())
    return mean > errors * float(np.sqrt((share**2 * (gain - mean) ** 2).sum()))
