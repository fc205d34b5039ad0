"""When another batch is not expected to pay: from the learning curve and the estimated error, with its uncertainty.

A batch pays twice: its labels correct their own items, and they teach. The first is known from the calibrated
probabilities: the expected number of wrong labels in the batch. The second is read off the rounds before it: by what
share the cross-fitted log-loss has fallen a label, on human labels that both rounds scored (paired, so that a later
round is not blamed for the harder items that it asked about); the expected error is taken to fall by that share.
Neither knows how well the probabilities are calibrated beyond the human labels that they were calibrated on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from mollm.records import BoolArray, FloatArray

WORTH = 0.002  # of the pool: a batch that lifts accuracy by less is not expected to pay
LAST = 3  # rounds that the learning curve looks back
COMMON = 30  # human labels that two rounds must both have scored


@dataclass(frozen=True)
class Earlier:
    """A round before this one: its number of human labels, and its cross-fitted losses (H,) in nats of this round's
    human labels, NaN where it had not seen the label."""

    human_labels: int
    losses: FloatArray

    @classmethod
    def of(cls, human_labels: int, losses: Mapping[str, float], keys: Sequence[str]) -> Self:
        """From losses by the label's name, in the order of this round's `keys` (H,)."""
        return cls(human_labels, np.array([losses.get(key, np.nan) for key in keys], dtype=np.float64))


@dataclass(frozen=True)
class Lesson:
    """By what share one more human label lowers the error, with a 95 % interval, from `labels` that were compared."""

    share: float
    low: float
    high: float
    labels: int


def lesson(losses: FloatArray, earlier: Sequence[Earlier]) -> Lesson | None:
    """The slope of the learning curve over the last rounds, `earlier` oldest first; None where it is not seen yet."""
    for round_ in earlier[-LAST:]:
        common = np.isfinite(round_.losses)
        more, n = len(losses) - round_.human_labels, int(common.sum())
        if n < COMMON or more <= 0:
            continue
        before, fall = round_.losses[common], (round_.losses - losses)[common]
        scale = 1 / (max(float(before.mean()), 1e-9) * more)
        half = 1.96 * float(fall.std(ddof=1)) / np.sqrt(n)
        mean = float(fall.mean())
        return Lesson(mean * scale, (mean - half) * scale, (mean + half) * scale, n)
    return None


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
    taught: float = 0.0  # what the batch teaches beyond itself, as a share of the pool
    taught_low: float = 0.0
    taught_high: float = 0.0
    compared: int = 0  # human labels behind `taught`; 0: there is no learning curve yet

    @property
    def stop(self) -> bool:
        """Even the optimistic end of the gain is not worth a batch, or nothing is open."""
        return self.open_items == 0 or self.gain_high + max(self.taught_high, 0.0) < WORTH

    def line(self) -> str:
        if self.open_items == 0:
            return "Stopping: every item has a human label."
        verdict = "another batch is not expected to pay" if self.stop else "another batch is expected to pay"
        return (
            f"Stopping: {verdict}. About {self.error:.1%} of {self.open_items} open items are wrong "
            f"[{self.error_low:.1%}, {self.error_high:.1%}]; the next {self.batch} labels correct "
            f"{self.gain:.2%} of the pool [{self.gain_low:.2%}, {self.gain_high:.2%}] "
        ) + (
            f"and, as the last rounds taught on {self.compared} labels, {self.taught:+.2%} "
            f"[{self.taught_low:+.2%}, {self.taught_high:+.2%}] beyond them."
            if self.compared
            else "(no learning curve yet)."
        )


def advise(
    probabilities: FloatArray, open_items: BoolArray, batch: Sequence[int], learned: Lesson | None = None
) -> Advice:
    """From calibrated `probabilities` (N, C), what is open (N,), the items of the next batch and the learning curve.

    The intervals (95 %) hold the chance that single items are right or wrong, and no doubt about the calibration.
    """
    doubt = 1 - probabilities.max(axis=1, initial=0.0)
    n, N = int(open_items.sum()), max(len(doubt), 1)
    if n == 0:
        return Advice(0, 0, 0, 0, 0, 0, 0, 0)
    error = spread(doubt[open_items], n)
    gain = spread(doubt[list(batch)], N)
    if learned is None:
        return Advice(*error, *gain, n, len(batch))
    wrong = error[0] * n / N
    taught = [wrong * min(share * len(batch), 1.0) for share in (learned.share, learned.low, learned.high)]
    return Advice(*error, *gain, n, len(batch), taught[0], taught[1], taught[2], learned.labels)


def spread(doubt: FloatArray, of: int) -> tuple[float, float, float]:
    """The expected number of wrong items as a share of `of`, and its 95 % interval (Poisson-binomial)."""
    mean, deviation = float(doubt.sum()), float(np.sqrt((doubt * (1 - doubt)).sum()))
    return mean / of, max(mean - 1.96 * deviation, 0.0) / of, (mean + 1.96 * deviation) / of
