"""A certificate for each predicted class: the tasks predicted as one class are a part with an audit of its own.

Within a part the tasks stand in their own order of confidence, and the test is that of `mollm.acceptance.certificate`.
The level is shared equally among the parts (Bonferroni): the chance that any of the certificates is wrong is at most
the whole level. A class that the labels at hand cannot certify is left out before the audit, and named.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mollm.acceptance.certificate import Certified, certify, share_of
from mollm.acceptance.outlook import Outlook, outlook
from mollm.acceptance.tails import simple_tail
from mollm.errors import InputError
from mollm.records import BoolArray, FloatArray, IntArray


@dataclass(frozen=True)
class Part:
    """The tasks predicted as one class: `members` are their places in the order of all open tasks, which is also their
    own order of confidence. Drawn and tested by `before.design`, at the level `alpha`."""

    label: str
    members: IntArray
    before: Outlook
    alpha: float

    def certify(self, places: IntArray, wrong: BoolArray, target: float) -> Certified:
        """As `mollm.acceptance.certificate.certify`; `places` count within the part."""
        return certify(self.before.design, places, wrong, share_of(target), self.alpha)


@dataclass(frozen=True, slots=True)
class LeftOut:
    """A class without a certificate: it has so many `tasks`, and would need so many audits (None: more than it has)."""

    label: str
    tasks: int
    needed: int | None

    @property
    def line(self) -> str:
        """One sentence for people."""
        what = (
            "as a class it is too small: label its tasks" if self.needed is None else f"it needs {self.needed} audits"
        )
        return f"{self.label}: {self.tasks} tasks are left to people; {what}."


@dataclass(frozen=True)
class ClassPlan:
    """The parts that take part, in the order of the class names, and the classes that are left out."""

    parts: tuple[Part, ...]
    left_out: tuple[LeftOut, ...]


def plan(
    predicted: IntArray, confidence: FloatArray, names: Sequence[str], labels: int, *,
    target: float, alpha: float, rng: np.random.Generator,
) -> ClassPlan:  # fmt: skip
    """Share `labels` audits among the C classes of the open tasks, and design the audit of each.

    `predicted` (K,) in 0..C-1 and `confidence` (K,), which falls; `names` (C,). Raises InputError where not even the
    largest class can be certified with so many labels.
    """
    members = [np.flatnonzero(predicted == c) for c in range(len(names))]
    sizes = np.array([len(rows) for rows in members])
    chosen = sorted(np.flatnonzero(sizes).tolist(), key=lambda c: -sizes[c])
    needs = _needs(sizes[chosen], target, alpha)
    while chosen and (not all(needs) or sum(needs) > labels):
        chosen.pop()  # the smallest: it would win the fewest tasks, and the level of the others rises
        needs = _needs(sizes[chosen], target, alpha)
    if not chosen:
        raise InputError(_too_few(sizes, labels, target, alpha))
    level = alpha / len(chosen)
    counts = dict(zip(chosen, _shared(sizes[chosen], np.array(needs), labels), strict=True))
    parts = tuple(
        Part(names[c], members[c], outlook(confidence[members[c]], counts[c], share_of(target), level, rng=rng), level)
        for c in sorted(chosen)
    )
    out = [c for c in range(len(names)) if sizes[c] and c not in counts]
    left_out = tuple(
        LeftOut(names[c], int(sizes[c]), needed(int(sizes[c]), target, alpha / (len(chosen) + 1))) for c in out
    )
    return ClassPlan(parts, left_out)


def needed(tasks: int, target: float, alpha: float) -> int | None:
    """The fewest audits of `tasks` that certify all of them where none is wrong; None where no number leaves a task.

    Of many tasks: the smallest n with target^n <= alpha.
    """
    audits = np.arange(1, tasks)
    wrong = share_of(target)(tasks - audits) + 1
    tail = simple_tail(np.zeros_like(audits), audits, np.full_like(audits, tasks), wrong)
    enough = np.flatnonzero(tail <= alpha)
    return int(audits[enough[0]]) if len(enough) else None


def _needs(sizes: IntArray, target: float, alpha: float) -> list[int]:
    """What each class needs at its part of the level `alpha`; 0 where no number would do."""
    return [needed(int(size), target, alpha / len(sizes)) or 0 for size in sizes]


def _shared(sizes: IntArray, needs: IntArray, labels: int) -> list[int]:
    """The labels in proportion to the sizes, each at least what it needs, and none more than its tasks."""
    counts = needs.astype(np.int64)
    for _ in range(labels - int(counts.sum())):
        share = np.where(counts < sizes, counts / sizes, np.inf)
        if np.isinf(share).all():
            break
        counts[share.argmin()] += 1
    return [int(count) for count in counts]


def _too_few(sizes: IntArray, labels: int, target: float, alpha: float) -> str:
    most = int(sizes.max(initial=0))
    need = needed(most, target, alpha)
    if need is None:
        return f"The largest class has {most} open tasks: too few to certify at {target:g}. Let people label them."
    return f"{labels} audits certify no class at {target:g}: the largest needs {need}. Plan as many, or a lower target."
