"""Finishing a pool: what people do next, and what it likely costs them until the whole pool is right enough.

People's labels count as right. So of N tasks at the target T at most (1 - T) N of those that nobody labelled may be
wrong. There are four ways on, and the cheapest in expected labels is the plan:

    accept   no more tasks are open than may be wrong
    audit    some of the open tasks, the doubtful ones more often, answered blind: they may certify the rest
    batch    more labels that teach the mixture and take its most doubtful tasks away, and an audit afterwards
    people   people label what is left; no audit is worth it

All of it is planned from the mixture's own confidence, before anybody answers: of each open task the mixture is wrong
with about the probability 1 - confidence, and that may be off (`doubt_of`, `off`). A plan may be wrong in its cost,
never in the promise: the certificate holds whether or not the confidence is right. It is that of a whole audit
(`mollm.acceptance.bet`): one test of all open tasks, decided as soon as the answers suffice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from mollm.acceptance.bet import prospect
from mollm.acceptance.certificate import fixed_number, level
from mollm.acceptance.doubt import doubt_of, shifted
from mollm.acceptance.outlook import DOUBT
from mollm.errors import InputError
from mollm.records import FloatArray, IntArray

TAUGHT = 0.6  # the odds of an error fall with the labels to this power (TREC, seed 0, tuned layers: from .5 to .9)
WORTH = 0.9  # of the labels without an audit: a plan that saves less is not worth its trouble (chosen by hand)
# Over the root of the wrong labels: how far off the confidence may be (TREC, seeds 0, 1, IMDB, 0-5: 1 to 2 differ by
# 10 %).
KNOWN = 1.4
ITERATIONS = 20  # of the expected cost of a later audit: enough where it more likely holds than not
AHEAD = (0, 1, 2, 3, 4, 6, 8, 11, 15, 20, 28, 40)  # numbers of batches that the plan compares
LONGEST = 3.0  # times the median: a longer time on one task was a pause (chosen by hand)
_FEWEST_WRONG = 0.5  # of the labels: without any it is not known at all how far off the confidence is

Step = Literal["accept", "audit", "batch", "people"]


@dataclass(frozen=True, slots=True)
class Goal:
    """`target` of the N tasks shall be right, promised at `confidence`; `batch` labels a round, `audit` the most of an
    audit. `chosen`: the loop chooses a batch's tasks; else they are drawn at random.
    """

    target: float = 0.95
    confidence: float = 0.95
    batch: int = 50
    audit: int = 1000
    chosen: bool = True

    def __post_init__(self) -> None:
        for name, value in (("target", self.target), ("confidence", self.confidence)):
            if not 0 < value < 1:
                raise InputError(f"A {name} of {value:g} cannot be promised: choose one above 0 and below 1, like .95.")
        if self.batch < 1 or self.audit < 1:
            raise InputError("A batch and an audit have at least one label each.")

    def allowed(self, N: int) -> int:
        """How many of the tasks that nobody labelled may be wrong."""
        return int((1 - self.target) * N + 1e-9)


@dataclass(frozen=True, slots=True)
class Audit:
    """At most `labels` (0: no audit), `expected` on average, that certify all open tasks with probability `chance`."""

    labels: int = 0
    expected: float = 0.0
    chance: float = 1.0


@dataclass(frozen=True, slots=True)
class Finish:
    """The plan. `labels`: of the next step, at most; `expected`: until the pool is finished, this step included (None
    `hours`: the pace is not known). Of `open` tasks `wrong` are expected to be wrong (`doubted`: without the allowance
    for labels that the loop chose), and `allowed` may be. `batches` come first, then the `audit`."""

    step: Step
    labels: int
    expected: float
    hours: float | None
    open: int
    wrong: float
    doubted: float
    allowed: int
    batches: int = 0
    audit: Audit = Audit()

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        """The next step and the cost, in plain words."""
        cost = f"in all some {self.expected:.0f} more labels{_hours(self.hours)}"
        if self.step == "accept":
            return f"Done: {self.open} tasks are open, and {self.allowed} may be wrong. No more labels are needed."
        if self.step == "people":
            return f"An audit is not worth it: label {self.labels} more tasks yourselves{_hours(self.hours)}."
        audit = (
            f"an audit of some {self.audit.expected:.0f} tasks, {self.audit.labels} at most (a chance of "
            f"{self.audit.chance:.0%} that it certifies the rest)"
        )
        if self.step == "audit":
            return f"Next: {audit}; {cost}."
        rounds = f"a batch of {self.labels}" if self.batches == 1 else f"{self.batches} batches of {self.labels}"
        return f"Next: {rounds} labels, then {audit if self.audit.labels else 'nothing more'}; {cost}."


def _hours(hours: float | None) -> str:
    return "" if hours is None else f", {hours:.1f} hours" if hours >= 1 else f", {hours * 60:.0f} minutes"


def pace(seconds: Sequence[float]) -> float | None:
    """Seconds a label, from the times that labels took: their mean, pauses cut at `LONGEST` times the median. None of
    no times."""
    times = np.array([one for one in seconds if one > 0], dtype=np.float64)
    return float(np.minimum(times, LONGEST * np.median(times)).mean()) if len(times) else None


def plan(
    confidence: FloatArray, given: int, N: int, goal: Goal, seconds: float | None = None, *,
    attempts: int = 0, spent: int = 0,
) -> Finish:  # fmt: skip
    """What to do next about K open tasks of a pool of N, of which people have labelled `given`.

    `confidence` (K,) of the open tasks, in any order; `seconds` a label (`pace`); `attempts`: earlier audits, each
    of which has spent a part of 1 - confidence; `spent`: how many of the tasks that were accepted unseen before may be
    wrong. Raises InputError for confidences that are no probabilities or more open tasks than N.
    """
    K, allowed = len(confidence), max(0, goal.allowed(N) - spent)
    if K > N or not np.all((confidence >= 0) & (confidence <= 1)):
        raise InputError(f"{K} open tasks of {N} need one confidence each, from 0 to 1.")
    doubt = doubt_of(confidence, given, chosen=goal.chosen)
    wrong, doubted = float(doubt.sum()), float((1 - confidence).sum())
    by_hand = max(0, K - allowed)

    def finish(step: Step, labels: int, expected: float, *more: Any) -> Finish:
        hours = None if seconds is None else expected * seconds / 3600
        return Finish(step, labels, expected, hours, K, wrong, doubted, allowed, *more)

    if not by_hand:
        return finish("accept", 0, 0.0)
    expected, batches, audit = WORTH * by_hand, -1, Audit()
    for ahead in AHEAD:
        more = ahead * goal.batch
        if more >= expected:
            break
        cost, found = _audited(_after(doubt, given, more, goal), allowed, goal, attempts, given + more)
        if more + cost < expected:
            expected, batches, audit = more + cost, ahead, found
    if batches < 0:
        return finish("people", by_hand, float(by_hand))
    if batches:
        return finish("batch", min(goal.batch, K), expected, batches, audit)
    return finish("audit", audit.labels, expected, 0, audit)


def off(doubt: FloatArray, given: int) -> float:
    """How far off the confidence may be: the standard deviation of an error's log-odds around what it says.

    It was calibrated on the labels that are `given`. What it knows of errors it has from the wrong ones among them, and
    at the mean `doubt` (K,) these are few while labels are few.
    """
    return float(np.hypot(DOUBT, KNOWN / max(given * float(doubt.mean()), _FEWEST_WRONG) ** 0.5))


def _after(doubt: FloatArray, given: int, more: int, goal: Goal) -> FloatArray:
    """The doubt, rising, of the tasks that are open after `more` labels: the most doubtful are gone, the rest better
    known."""
    if not more:
        return doubt
    known = np.log(given / (given + more)) if given else 0.0  # without any label nobody knows how they teach
    rest = doubt[: len(doubt) - more] if goal.chosen else doubt[_spread(len(doubt), len(doubt) - more)]
    return shifted(rest, TAUGHT * float(known))


def _spread(K: int, kept: int) -> IntArray:
    """`kept` of K places, evenly apart: what stays of a pool when labels are drawn at random."""
    return ((np.arange(max(kept, 0)) + 0.5) * K / max(kept, 1)).astype(np.int64)


def _audited(doubt: FloatArray, allowed: int, goal: Goal, attempts: int, given: int) -> tuple[float, Audit]:
    """The best audit of K tasks with this `doubt` (K,), rising, after so many labels as are `given`, and the labels
    that it likely costs until the pool is finished.

    If it certifies nothing, people label all, or a batch follows and an audit at what is left of 1 - confidence: the
    cost of that one stands on both sides of an equation, solved from above.
    """
    K = len(doubt)
    if allowed >= K:
        return 0.0, Audit()
    spread = off(doubt, given)

    def costs(attempt: int) -> tuple[IntArray, FloatArray, FloatArray]:
        """(T,) the most answers, the expected ones, and the chance that they certify."""
        found = prospect(doubt, min(goal.audit, K), fixed_number(allowed), level(goal.confidence, attempt), spread)
        return found.answers, found.expected, found.reached

    def whole(answers: IntArray, expected: FloatArray, reached: FloatArray, again: float) -> FloatArray:
        by_hand = np.maximum(0, K - allowed - answers)
        return np.asarray(expected + (1 - reached) * np.minimum(by_hand, goal.batch + again))

    later, again = costs(attempts + 2), np.inf
    for _ in range(ITERATIONS):
        again = float(whole(*later, again).min())
    answers, expected, reached = costs(attempts + 1)
    cost = whole(answers, expected, reached, again)
    best = int(cost.argmin())
    return float(cost[best]), Audit(int(answers[best]), float(expected[best]), float(reached[best]))
