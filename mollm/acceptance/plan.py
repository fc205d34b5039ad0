"""Finishing a pool: what people do next, and what it likely costs them until the whole pool is right enough.

People's labels count as right. So of N tasks at the target T at most (1 - T) N of those that nobody labelled may be
wrong. There are four ways on, and the cheapest in expected labels is the plan:

    accept   no more tasks are open than may be wrong
    audit    n of the open tasks, drawn at random, answered blind: they may certify the rest
    batch    more labels that teach the mixture and take its most doubtful tasks away, and an audit afterwards
    people   people label what is left; no audit is worth it

All of it is planned from the mixture's own calibrated confidence, before anybody answers: of each open task the mixture
is wrong with probability 1 - confidence, and the confidence itself may be off (`DOUBT`). A plan may be wrong in its
cost, never in the promise: the certificate holds whether or not the confidence is right. It is a single test of the
audit's whole region (`design`), for the sequence over coverages of `mollm.acceptance.outlook` spends power on parts of
the pool that finish nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from scipy.special import expit, logit
from scipy.stats import binom, norm

from mollm.acceptance.audit import Design
from mollm.acceptance.certificate import level
from mollm.acceptance.outlook import DOUBT
from mollm.acceptance.tails import simple_tail
from mollm.errors import InputError
from mollm.records import FloatArray, IntArray

TAUGHT = 0.6  # the odds of an error fall with the labels to this power (TREC, seed 0, tuned layers: from .5 to .9)
WORTH = 0.9  # of the labels without an audit: a plan that saves less is not worth its trouble (chosen by hand)
FEWEST = 20  # labels of an audit: fewer can certify no target of interest
SIZES = 12  # audits that are compared: few, since a plan is made after every round
OUTSIDE = np.array([0, 0.02, 0.05, 0.1, 0.2, 0.4])  # shares of the open tasks that an audit may leave out
ITERATIONS = 20  # of the expected cost of a later audit: enough where it more likely holds than not
AHEAD = (0, 1, 2, 3, 4, 6, 8, 11, 15, 20, 28, 40)  # numbers of batches that the plan compares
LONGEST = 3.0  # times the median: a longer time on one task was a pause (chosen by hand)
_QUANTILES = norm.ppf((np.arange(10) + 0.5) / 10)  # of how far the confidence is off: ten equally likely cases
_SURE = 1e-4  # no probability is nearer to 0 or 1, as in the outlook

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
    """`labels` (0: no audit) drawn from the `region` most confident tasks, which it certifies with probability
    `chance`; the others are left to people."""

    labels: int = 0
    region: int = 0
    chance: float = 1.0


@dataclass(frozen=True, slots=True)
class Finish:
    """The plan. `labels`: of the next step; `expected`: until the pool is finished, this step included (None `hours`:
    the pace is not known). Of `open` tasks `wrong` are expected to be wrong, and `allowed` may be. `batches` come
    first, then the `audit`."""

    step: Step
    labels: int
    expected: float
    hours: float | None
    open: int
    wrong: float
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
            f"an audit of {self.audit.labels} tasks (a chance of {self.audit.chance:.0%} that it certifies the rest)"
        )
        if self.step == "audit" and self.audit.region < self.open:
            audit += f", and {self.open - self.audit.region} tasks to label yourselves"
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
    attempts: int = 0, left: int | None = None, spent: int = 0,
) -> Finish:  # fmt: skip
    """What to do next about K open tasks of a pool of N, of which people have labelled `given`.

    `confidence` (K,) of the open tasks, in any order; `seconds` a label (`pace`); `attempts`: earlier audits, each
    of which has spent a part of 1 - confidence; `left`: the open tasks outside of what an audit has certified (None:
    nothing is certified); `spent`: how many of the tasks that were accepted unseen before may be wrong. Raises
    InputError for confidences that are no probabilities or more open tasks than N.
    """
    K, allowed = len(confidence), max(0, goal.allowed(N) - spent)
    if K > N or not np.all((confidence >= 0) & (confidence <= 1)):
        raise InputError(f"{K} open tasks of {N} need one confidence each, from 0 to 1.")
    doubt = np.sort(1 - confidence)
    wrong = float(doubt.sum())
    by_hand = max(0, K - allowed) if left is None else min(left, max(0, K - allowed))

    def finish(step: Step, labels: int, expected: float, *more: Any) -> Finish:
        hours = None if seconds is None else expected * seconds / 3600
        return Finish(step, labels, expected, hours, K, wrong, allowed, *more)

    if not by_hand:
        return finish("accept", 0, 0.0)
    expected, batches, audit = WORTH * by_hand, -1, Audit()
    for ahead in AHEAD:
        more = ahead * goal.batch
        if more >= expected:
            break
        cost, found = _audited(_after(doubt, given, more, goal), allowed, goal, attempts)
        if more + cost < expected:
            expected, batches, audit = more + cost, ahead, found
    if batches < 0:
        return finish("people", by_hand, float(by_hand))
    if batches:
        return finish("batch", min(goal.batch, K), expected, batches, audit)
    return finish("audit", audit.labels, expected, 0, audit)


def design(found: Finish) -> Design:
    """The audit of a plan whose step is `audit`: one test, of its whole region."""
    return Design("simple", found.audit.labels, found.audit.region, found.audit.region, found.open)


def _after(doubt: FloatArray, given: int, more: int, goal: Goal) -> FloatArray:
    """The doubt, rising, of the tasks that are open after `more` labels: the most doubtful are gone, the rest better
    known."""
    if not more:
        return doubt
    known = np.log(given / (given + more)) if given else 0.0  # without any label nobody knows how they teach
    rest = doubt[: len(doubt) - more] if goal.chosen else doubt[_spread(len(doubt), len(doubt) - more)]
    return np.asarray(expit(logit(np.clip(rest, _SURE, 1 - _SURE)) + TAUGHT * known))


def _spread(K: int, kept: int) -> IntArray:
    """`kept` of K places, evenly apart: what stays of a pool when labels are drawn at random."""
    return ((np.arange(max(kept, 0)) + 0.5) * K / max(kept, 1)).astype(np.int64)


def _audited(doubt: FloatArray, allowed: int, goal: Goal, attempts: int) -> tuple[float, Audit]:
    """The best audit of K tasks, and the labels that it likely costs until the pool is finished.

    If it certifies its region, people label the tasks outside. If not, they label all, or a batch follows and an audit
    at what is left of 1 - confidence: the cost of that one stands on both sides of an equation, solved from above.
    """
    K = len(doubt)
    if allowed >= K:
        return 0.0, Audit()
    n = np.unique(np.geomspace(min(FEWEST, K), min(goal.audit, K), SIZES).round().astype(np.int64))[:, None]
    regions = np.unique(np.ceil((1 - OUTSIDE) * K).astype(np.int64))
    audits, tasks = np.minimum(n, regions), np.broadcast_to(regions, (len(n), len(regions)))
    odds = logit(np.clip(doubt, _SURE, 1 - _SURE))
    rates = np.cumsum(expit(odds + DOUBT * _QUANTILES[:, None]), axis=1)[:, regions - 1] / regions
    by_hand = np.maximum(0, K - allowed - audits)

    def chances(attempt: int) -> FloatArray:
        most = _most_errors(audits, tasks, allowed, level(goal.confidence, attempt))
        return np.asarray(binom.cdf(most, audits, rates[:, None, :]).mean(axis=0))

    def costs(chance: FloatArray, again: float) -> FloatArray:
        return np.asarray(audits + chance * (K - regions) + (1 - chance) * np.minimum(by_hand, goal.batch + again))

    later, again = chances(attempts + 2), np.inf
    for _ in range(ITERATIONS):
        again = float(costs(later, again).min())
    chance = chances(attempts + 1)
    cost = costs(chance, again)
    best = np.unravel_index(cost.argmin(), cost.shape)
    return float(cost[best]), Audit(int(audits[best]), int(tasks[best]), float(chance[best]))


def _most_errors(audits: IntArray, tasks: IntArray, allowed: int, alpha: float) -> IntArray:
    """With how many errors at most an audit still certifies; -1: with none. By bisection, all of one shape.

    Fewer than the mean, for a level below one half; any number where fewer tasks are left than may be wrong.
    """
    left = tasks - audits
    mean = audits * (allowed + 1) // np.maximum(left, 1) + 1
    low, high = np.full(audits.shape, -1), np.where(left > allowed, np.minimum(mean, audits), audits)
    while (low < high).any():
        middle = (low + high + 1) // 2
        errors = np.maximum(middle, 0)
        holds = simple_tail(errors, audits, tasks, allowed + 1 + errors) <= alpha
        low, high = np.where(holds, middle, low), np.where(holds, high, middle - 1)
    return np.asarray(low)
