"""95 % intervals for shares of counted things."""

from __future__ import annotations

from dataclasses import dataclass

from scipy.special import betaincinv

Z = 1.959963984540054  # the normal distribution's 97.5 % point


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
