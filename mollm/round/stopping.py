"""Advice when another batch is not worth asking for, from the estimated error and the learning curve.

A batch has two gains: its labels correct their own items, and they teach the mixture. The first gain is the expected
number of wrong labels in the batch, from the calibrated probabilities. The second comes from earlier rounds: the share
by which the cross-fitted log-loss fell for each new label. The expected error is assumed to fall by the same share.
Losses are compared on the same human labels, because later rounds ask about harder items. Both gains assume that the
probabilities are as well calibrated on all items as on the human labels. These were chosen for being hard, so that less
is wrong: `allowing` for that is the other end of the guess (`mollm.acceptance.doubt`). Nothing here tests it, so the
figures are the mixture's own guess and are printed without an interval: an audit measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Self

import numpy as np

from mollm.acceptance.doubt import between, expected_right
from mollm.records import BoolArray, FloatArray

WORTH = 0.002  # share of the pool that a batch must correct to be worth it (chosen by hand: smaller asks for longer)
LAST = 3  # earlier rounds to compare with (chosen by hand: more is less noisy, fewer follows the curve as it flattens)
COMMON = 30  # human labels that both rounds must have scored (chosen by hand, as in the gate): fewer is mostly noise


@dataclass(frozen=True)
class Earlier:
    """An earlier round: its number of human labels, and its cross-fitted losses (H,) in nats on this round's human
    labels, NaN for labels that it did not have."""

    human_labels: int
    losses: FloatArray

    @classmethod
    def of(cls, human_labels: int, losses: Mapping[str, float], keys: Sequence[str]) -> Self:
        """From `losses` by the key of the label, in the order of this round's `keys` (H,)."""
        return cls(human_labels, np.array([losses.get(key, np.nan) for key in keys], dtype=np.float64))


@dataclass(frozen=True)
class Lesson:
    """The share by which one more human label lowers the error, its 95 % interval, the number of compared labels."""

    share: float
    low: float
    high: float
    labels: int


def lesson(losses: FloatArray, earlier: Sequence[Earlier]) -> Lesson | None:
    """The slope of the learning curve, from this round's `losses` (H,) in nats and the oldest of the last LAST rounds
    that shares COMMON labels with it (None if there is none). `earlier` is oldest first."""
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
    """The mixture's own guess. `error`: the share of wrong labels among open items, `allowing` for labels that the loop
    chose. `gain`: the share of the pool that the next batch corrects by its own labels; `taught`: the share that
    becomes right because the batch teaches.

    The `_high` ends allow for chance alone, at 97.5 %: `stop` is careful by them, and they are no one's interval.
    """

    error: float
    allowing: float
    gain: float
    gain_high: float
    open_items: int
    batch: int
    taught: float = 0.0
    taught_high: float = 0.0
    compared: int = 0  # human labels that `taught` is from; 0: there is no learning curve yet

    @property
    def stop(self) -> bool:
        """True if even the upper ends of the gains are not worth a batch, or no item is open."""
        return self.open_items == 0 or self.gain_high + max(self.taught_high, 0.0) < WORTH

    def line(self) -> str:
        if self.open_items == 0:
            return "Stopping: every item has a human label."
        verdict = "another batch is not expected to pay" if self.stop else "another batch is expected to pay"
        curve = (
            f"; as the last rounds taught on {self.compared} labels, they teach {self.taught:+.2%} beyond them."
            if self.compared
            else " (no learning curve yet)."
        )
        wrong = between(f"{self.allowing:.1%}", f"{self.error:.1%}")
        return (
            f"Stopping: {verdict}. This is the mixture's own guess, not measured (an audit measures it): about "
            f"{wrong} of the {self.open_items} items that were open at this round are wrong; the next "
            f"{self.batch} labels correct {self.gain:.2%} of the pool{curve}"
        )


def advise(
    probabilities: FloatArray, open_items: BoolArray, batch: Sequence[int], given: int, learned: Lesson | None = None
) -> Advice:
    """Advice from calibrated `probabilities` (N, C), `open_items` (N,), the items of the next batch, the number of
    items with a label (`given`) and the slope."""
    doubt = 1 - probabilities.max(axis=1, initial=0.0)
    n, N = int(open_items.sum()), max(len(doubt), 1)
    if n == 0:
        return Advice(0, 0, 0, 0, 0, 0)
    right, allowing = expected_right(1 - doubt[open_items], given)
    error, of_batch = 1 - right, doubt[list(batch)]
    # A sum of independent errors: its mean, and its standard deviation by chance (a Poisson-binomial sum).
    mean, deviation = float(of_batch.sum()), float(np.sqrt((of_batch * (1 - of_batch)).sum()))
    found = Advice(error, 1 - allowing, mean / N, (mean + 1.96 * deviation) / N, n, len(batch))
    if learned is None:
        return found
    taught, high = (error * n / N * min(share * len(batch), 1.0) for share in (learned.share, learned.high))
    return replace(found, taught=taught, taught_high=high, compared=learned.labels)
