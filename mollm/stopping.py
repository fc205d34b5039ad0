"""When another batch is not expected to pay: from the learning curve and the estimated error, with its uncertainty.

A batch pays twice: its labels correct their own items, and they teach. The first is known from the calibrated
probabilities: the expected number of wrong labels in the batch. The second is read off the versions before it: how
far the expected error of the open items has fallen a label. Neither knows how well the probabilities are calibrated
on this project beyond the human labels that they were calibrated on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mollm.records import BoolArray, FloatArray

WORTH = 0.002  # of the pool: a batch that lifts accuracy by less is not expected to pay


@dataclass(frozen=True)
class Advice:
    """`error` is the expected share of the open items that are wrong, `gain` what the next batch corrects itself."""

    error: float
    error_low: float
    error_high: float
    gain: float
    gain_low: float
    gain_high: float
    open_items: int
    batch: int
    taught: float = 0.0  # what the labels of the last rounds taught beyond themselves, scaled to the next batch

    @property
    def stop(self) -> bool:
        """Even the optimistic end of the gain is not worth a batch, or nothing is open."""
        return self.open_items == 0 or self.gain_high + max(self.taught, 0.0) < WORTH

    def line(self) -> str:
        if self.open_items == 0:
            return "Stopping: every item has a human label."
        verdict = "another batch is not expected to pay" if self.stop else "another batch is expected to pay"
        return (
            f"Stopping: {verdict}. About {self.error:.1%} of {self.open_items} open items are wrong "
            f"[{self.error_low:.1%}, {self.error_high:.1%}]; the next {self.batch} labels correct "
            f"{self.gain:.2%} of the pool [{self.gain_low:.2%}, {self.gain_high:.2%}]"
            + (f" and, as the last rounds taught, some {self.taught:.2%} more." if self.taught else ".")
        )


def advise(
    probabilities: FloatArray, open_items: BoolArray, batch: Sequence[int], curve: Sequence[tuple[int, float]] = ()
) -> Advice:
    """From calibrated `probabilities` (N, C), what is open (N,), the items of the next batch and `taught`'s curve.

    The intervals (95 %) hold the chance that single items are right or wrong, and no doubt about the calibration.
    """
    doubt = 1 - probabilities.max(axis=1, initial=0.0)
    n, N = int(open_items.sum()), max(len(doubt), 1)
    if n == 0:
        return Advice(0, 0, 0, 0, 0, 0, 0, 0)
    error = spread(doubt[open_items], n)
    gain = spread(doubt[list(batch)], N)
    return Advice(*error, *gain, n, len(batch), taught(curve, len(batch)))


def spread(doubt: FloatArray, of: int) -> tuple[float, float, float]:
    """The expected number of wrong items as a share of `of`, and its 95 % interval (Poisson-binomial)."""
    mean, deviation = float(doubt.sum()), float(np.sqrt((doubt * (1 - doubt)).sum()))
    return mean / of, max(mean - 1.96 * deviation, 0.0) / of, (mean + 1.96 * deviation) / of


def taught(curve: Sequence[tuple[int, float]], batch: int, last: int = 3) -> float:
    """What the next batch teaches, as a share of the open items: the slope of the expected error.

    `curve` is (human labels, expected error of the open items) a version, oldest first; the slope is that of the
    `last` steps by least squares, and 0 with fewer than two versions.
    """
    recent = np.array(curve[-last - 1 :], dtype=np.float64).reshape(-1, 2)
    if len(recent) < 2 or np.ptp(recent[:, 0]) == 0:
        return 0.0
    slope = np.polyfit(recent[:, 0], recent[:, 1], 1)[0]
    return float(-slope * batch)
