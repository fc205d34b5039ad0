"""Scores of probabilities against labels, and 95 % intervals of shares."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
from scipy.special import betaincinv, stdtrit

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

    def times(self, factor: float) -> Estimate:
        """So many times the figure; `factor` >= 0."""
        return Estimate(factor * self.value, factor * self.low, factor * self.high)

    def line(self, digits: int = 2) -> str:
        return f"{self.value:.{digits}f} [{self.low:.{digits}f}, {self.high:.{digits}f}]"


@dataclass(frozen=True, slots=True)
class Figure:
    """An estimate for people and the number of tasks `n` it rests on. It is None where a `reason` says why."""

    n: int
    estimate: Estimate | None = None
    reason: str = ""

    def line(self, digits: int = 2) -> str:
        known = f"unknown: {self.reason}" if self.estimate is None else self.estimate.line(digits)
        return f"{known} (n = {self.n})"

    def as_json(self) -> dict[str, float | int | str | None]:
        """`n`, `value`, `low`, `high`, `reason`; unknown figures are None."""
        known = asdict(self.estimate) if self.estimate else {"value": None, "low": None, "high": None}
        return {"n": self.n, **known, "reason": self.reason}


def wilson(share: float, n: float) -> Estimate:
    """A share seen in `n` independent trials (effective numbers may be fractions; 0: 0 to 1). Wilson 1927."""
    if n <= 0:
        return Estimate(share, 0.0, 1.0)
    centre = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z / (1 + Z**2 / n) * (share * (1 - share) / n + Z**2 / (4 * n**2)) ** 0.5
    return Estimate(share, max(0.0, centre - half), min(1.0, centre + half))


def clopper_pearson(share: float, n: float) -> Estimate:
    """A share seen in `n` > 0 independent trials: covers at least 95 %, also of few trials and near 0 and 1.

    Clopper and Pearson 1934; effective numbers may be fractions (Korn and Graubard 1998).
    """
    hits, misses = share * n, (1 - share) * n
    low = float(betaincinv(hits, misses + 1, 0.025)) if hits > 0 else 0.0
    high = float(betaincinv(hits + 1, misses, 0.975)) if misses > 0 else 1.0
    return Estimate(share, min(low, share), max(high, share))  # a rounded share of almost 0 or 1 stays inside


def effective(value: FloatArray, weight: FloatArray, shift: FloatArray | None = None) -> float:
    """How many yes-or-no trials tell as much of a mean as `value` (n,) in 0..1 with `weight` (n,) > 0; n >= 1.

    Kish's (1965) effective number, divided by how much more the values vary than trials of the same share (Korn and
    Graubard 1998). A 0 and a 1 of the largest weight are added before: what was not yet seen may weigh as much. Trials
    of equal weight count as n, values between 0 and 1 as more. `shift` (n,), of mean 0, is taken off each value: what
    it moves in a divisor of the mean.
    """
    most, total, squares = float(weight.max()), float(weight.sum()), float(weight @ weight)
    share = float(weight @ value + most) / (total + 2 * most)
    apart = value - share if shift is None else value - share - shift
    spread = float(weight**2 @ apart**2) + most**2 * (share**2 + (1 - share) ** 2)
    return total**2 / squares * share * (1 - share) * (squares + 2 * most**2) / spread


def weighted_share(value: FloatArray, weight: FloatArray) -> Estimate:
    """Mean of `value` (n,) in 0..1 with `weight` (n,) > 0, n >= 1: Clopper and Pearson's interval at `effective` n."""
    share = min(1.0, float(weight @ value / weight.sum()))
    return clopper_pearson(share, effective(value, weight))


def newcombe(first: Estimate, second: Estimate) -> Estimate:
    """`first` minus `second`, two independent shares with their Wilson intervals (Newcombe 1998, method 10)."""
    difference = first.value - second.value
    low = ((first.value - first.low) ** 2 + (second.high - second.value) ** 2) ** 0.5
    high = ((first.high - first.value) ** 2 + (second.value - second.low) ** 2) ** 0.5
    return Estimate(difference, max(-1.0, difference - low), min(1.0, difference + high))


def ratio(amounts: FloatArray, counts: FloatArray) -> Estimate:
    """The sum of `amounts` (k,) over that of `counts` (k,) > 0, of k independent parts of one run: seconds a text, say.

    The jackknife of a ratio (Cochran 1977, section 6.17), with Student's t on k - 1. Of one part nothing tells how far
    it may be off: then `low` and `high` are NaN.
    """
    k, value = len(amounts), float(amounts.sum() / counts.sum())
    if k < 2:
        return Estimate(value, float("nan"), float("nan"))
    without = (amounts.sum() - amounts) / (counts.sum() - counts) - value
    half = float(stdtrit(k - 1, 0.975) * ((k - 1) / k * (without @ without)) ** 0.5)
    return Estimate(value, max(0.0, value - half), value + half)


def mean_share(shares: FloatArray) -> Estimate:
    """The mean of n independent shares (n,), by Student's t (of one alone: 0 to 1)."""
    mean, n = float(shares.mean()), len(shares)
    if n < 2:
        return Estimate(mean, 0.0, 1.0)
    half = float(stdtrit(n - 1, 0.975) * shares.std(ddof=1) / n**0.5)
    return Estimate(mean, max(0.0, mean - half), min(1.0, mean + half))


def total(*parts: Estimate) -> Estimate:
    """The sum of independent estimates: what each may be off adds up in squares (MOVER; Zou and Donner 2008)."""
    value = sum(part.value for part in parts)
    low = float(np.sqrt(sum((part.value - part.low) ** 2 for part in parts)))
    high = float(np.sqrt(sum((part.high - part.value) ** 2 for part in parts)))
    return Estimate(value, float(np.maximum(0.0, value - low)), value + high)


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
