"""The certificate: how many of the open tasks, the most confident first, may be accepted unseen at a target.

For each number k of a grid there is a hypothesis H(k): of the first k tasks, more of those that nobody audited are
wrong than the target allows. The grid is tested in its order, fixed before the audit is opened: from `Design.start`
on, each k at the whole level, up to the first that is not rejected (a fixed sequence: Maurer, Hothorn and Lehmacher
1995). The chance that a k with too many errors is certified is then at most the level, wherever the errors lie.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mollm.acceptance.audit import Design
from mollm.errors import InputError
from mollm.records import BoolArray, IntArray

Allowed = Callable[[IntArray], IntArray]  # how many of so many unaudited tasks may be wrong
_ROUNDING = 1e-9  # .05 x 100 in binary is a little below 5: without this a whole task would be lost
SPENT = 0.95  # of what is left of 1 - confidence, at each attempt (chosen by hand: the first is nearly as strong as an
# only one, and few need a second, which has a twentieth of it)


def share_of(target: float) -> Allowed:
    """At most 1 - target of the unaudited tasks themselves."""
    return lambda tasks: np.floor((1 - target) * np.asarray(tasks) + _ROUNDING).astype(np.int64)


def fixed_number(wrong: int) -> Allowed:
    """At most so many, whatever their number: the errors that a whole pool of N can bear, (1 - target) N."""
    return lambda tasks: np.full(np.shape(tasks), wrong, dtype=np.int64)


def level(confidence: float, attempt: int) -> float:
    """The error that attempt 1, 2, ... at a pool may spend, all together at most 1 - `confidence`."""
    return (1 - confidence) * SPENT * (1 - SPENT) ** (attempt - 1)


@dataclass(frozen=True, slots=True)
class Certified:
    """The first `tasks` in the order of confidence are certified (0: none). `audits` of them were audited, `errors` of
    these wrong; a whole audit in vain tells both all the same."""

    tasks: int
    audits: int
    errors: int

    @property
    def accepted(self) -> int:
        """The tasks to accept: certified, and labelled by nobody."""
        return max(self.tasks - self.audits, 0)


def certify(design: Design, places: IntArray, wrong: BoolArray, allowed: Allowed, alpha: float) -> Certified:
    """Certify as many tasks as the audit allows at the level `alpha`.

    `places` (n,) are the audited places in the order of confidence, `wrong` (n,) whether the prediction there was not
    what people said (a skip counts as wrong). A `spread` audit must be complete; of a `simple` one any number of first
    answers will do. Raises InputError for places that the design cannot have drawn.
    """
    if design.kind == "spread" and len(places) != design.labels:
        raise InputError(f"{len(places)} of {design.labels} audits are answered: this audit is read only as a whole.")
    if len(places) and not 0 <= places.min() <= places.max() < design.region:
        raise InputError("An audit lies outside the tasks that it was drawn from: it was not drawn at random.")
    ends = design.ends
    order = np.argsort(places)
    audits = np.searchsorted(places[order], ends)
    errors = np.concatenate([[0], np.cumsum(wrong[order])])[audits]
    failed = design.tail(errors, audits, ends, allowed(ends - audits)) > alpha
    passed = int(np.argmax(failed)) if failed.any() else len(ends)
    if not passed:
        return Certified(0, 0, 0)
    return Certified(int(ends[passed - 1]), int(audits[passed - 1]), int(errors[passed - 1]))
