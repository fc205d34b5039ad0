"""What an audit of the open tasks would likely bring, said before anybody answers, and the audit that is then drawn."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mollm.acceptance import by_class, estimate
from mollm.acceptance.bet import FLOOR, STAKE, Prospect, prospect
from mollm.acceptance.certificate import fixed_number, share_of
from mollm.acceptance.doubt import between, doubt_of, expected_right
from mollm.acceptance.outlook import Outlook, outlook
from mollm.acceptance.plan import off
from mollm.errors import InputError
from mollm.metrics import Figure
from mollm.records import IntArray
from mollm.streams import stream
from mollm_backend.labelstudio.label_config import certainty
from mollm_backend.store import Store, audit_answers, audits, frozen, labels
from mollm_backend.store.audits import Audit, Part
from mollm_backend.store.frozen import Frozen
from mollm_backend.store.projects import Project
from mollm_backend.work import actions

TARGET_STEPS = 10_000  # a share that follows from a number of tasks is said to a hundredth of a percent
SURELY = 0.995  # a larger chance that nothing is certified is told as certain
SIZES = (100, 200, 300, 500)  # labels for which the outlook is told beside the asked one


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for: `labels` audits; `target` None for an estimate alone. All `looks` share 1 - `confidence`.

    `whole`: all open tasks or none are certified, as soon as the answers suffice; `wrong`: how many of them may be
    wrong, in place of a target.
    """

    labels: int = 300
    target: float | None = None
    confidence: float = 0.95
    by_class: bool = False
    looks: int = 1
    seed: int = 0
    whole: bool = False
    wrong: int | None = None

    @property
    def alpha(self) -> float:
        return (1 - self.confidence) / self.looks

    def check(self) -> None:
        """Raise InputError for what cannot be promised, whatever the project."""
        for name, value in (("--target", self.target), ("--confidence", self.confidence)):
            if value is not None and not 0 < value < 1:
                raise InputError(f"{name} {value:g} cannot be promised: choose a share above 0 and below 1, like .95.")
        if self.by_class and self.target is None:
            raise InputError("--by-class certifies each class at a target: name it, like --target .95.")
        if self.wrong is not None and (not self.whole or self.target is not None or self.wrong < 0):
            raise InputError("--wrong is a number of tasks that a --whole audit may leave wrong, in place of --target.")
        if self.whole and self.target is None and self.wrong is None:
            raise InputError("--whole certifies all open tasks at a target: name it, like --target .95.")
        if self.whole and (self.by_class or self.looks > 1):
            raise InputError("A --whole audit has no classes and needs no --looks: it may be decided at any answer.")
        if self.labels < 1 or self.looks < 1:
            raise InputError("An audit has at least one label and one look.")


@dataclass(frozen=True, slots=True)
class Size:
    """The outlook of so many labels: the expected share of the open tasks accepted, the central 80 % of the simulated
    audits (None by class and of a whole audit), and the chance that nothing is certified. `expected`: the answers that
    a whole audit likely takes. `why` there is none ("": there is)."""

    labels: int
    share: float = 0.0
    low: float | None = None
    high: float | None = None
    refused: float = 1.0
    why: str = ""
    expected: float | None = None


@dataclass(frozen=True)
class Plan:
    """An audit that could be drawn now, and what is likely to come of it.

    `expected_accuracy`: the mixture's own guess of the open tasks; `allowing`: the same with its allowance for labels
    that the loop chose. `left`: the share of the open tasks that any rule must leave to people, if the confidence is
    right. `for_accuracy`: how many audits show the accuracy to +- 5 points. `left_out`: a line for each class without a
    part.
    """

    labels: int
    audit: Audit
    rest: Frozen
    text_keys: list[str]
    open: int
    expected_accuracy: float
    allowing: float
    for_accuracy: int
    left: float
    sizes: tuple[Size, ...]
    left_out: tuple[str, ...] = ()

    @property
    def asked(self) -> Size | None:
        """The outlook of the labels that were asked for; None without a target."""
        return next((size for size in self.sizes if size.labels == self.labels), None)

    @property
    def hopeless(self) -> str:
        """Why this audit would certify nothing, and what would; "" where it may."""
        target, asked = self.audit.target, self.asked
        if target is None or asked is None or asked.refused < SURELY:
            return ""
        enough = next((size.labels for size in self.sizes if size.refused < 0.5), None)
        other = f"{enough} labels may do" if enough else "label more tasks first, or choose a lower target"
        return f"{asked.labels} labels will certify nothing at {target:g}: {other}."

    def as_json(self) -> dict[str, Any]:
        return {
            "version": self.audit.version, "target": self.audit.target, "confidence": self.audit.confidence,
            "looks": self.audit.looks, "parts": [asdict(part) for part in self.audit.parts], "open": self.open,
            "expected_accuracy": self.expected_accuracy, "allowing": self.allowing, "for_accuracy": self.for_accuracy,
            "left_to_people": self.left, "outlook": [asdict(size) for size in self.sizes],
            "left_out": list(self.left_out), "hopeless": self.hopeless,
        }  # fmt: skip

    def lines(self) -> list[str]:
        """For people."""
        target, audit = self.audit.target, self.audit
        found = [
            f"{self.open} tasks are open; the mixture itself expects to be right on "
            f"{between(f'{self.expected_accuracy:.1%}', f'{self.allowing:.1%}')} of them",
            f"to know that to +- 5 points takes about {self.for_accuracy} audits",
        ]
        if target is None:
            return found
        if self.left:
            found.append(f"at {target:g} any rule must leave about {self.left:.0%} of them to people")
        found += [_line(size, target) for size in self.sizes]
        found += [f"{part.label}: {part.labels} audits of {part.tasks} tasks" for part in audit.parts if part.label]
        return [*found, *self.left_out, *filter(None, [self.hopeless])]


def _line(size: Size, target: float) -> str:
    if size.why:
        return f"{size.labels} labels: {size.why}"
    if size.expected is not None:
        return (
            f"{size.labels} labels at most: all certified at {target:g} with a chance of {1 - size.refused:.0%}, after "
            f"some {size.expected:.0f} answers on average"
        )
    spread = "" if size.low is None else f" (80 % of the audits: {size.low:.0%} to {size.high:.0%})"
    return (
        f"{size.labels} labels: about {size.share:.0%} accepted at {target:g}{spread}, "
        f"nothing with a chance of {size.refused:.0%}"
    )


def plan(store: Store, project: Project, wanted: Wanted) -> Plan:
    """Freeze the open rest of the published version and plan an audit of it; nothing is written.

    Raises InputError where none can be made, with the reason and what would do.
    """
    wanted.check()
    version = actions.auditable(store, project)
    rest, keys = frozen.freeze(store, project, certainty)
    K = len(rest.task_ids)
    if not K:
        raise InputError(f"No open task of project {project.id} has a prediction: there is nothing to audit.")
    if wanted.labels > K:
        raise InputError(f"{wanted.labels} audits need as many open tasks: there are {K}. Choose --labels {K} at most.")
    wanted = _with_target(wanted, K)
    _check_needed(store, project, wanted)
    given = len(labels.labelled_tasks(labels.of_people(labels.every(store, project.id))))
    sure, allowing = expected_right(rest.confidence, given)
    rows, parts, left_out = _parts(project, rest, wanted)
    audit = Audit(
        version, audits.CERTIFICATE, wanted.target, wanted.confidence, wanted.seed, parts,
        audits.asked_digest(project.decisions), wanted.looks,
    )  # fmt: skip
    return Plan(
        wanted.labels, audit, rest.take(rows), [keys[n] for n in rows], K, sure, allowing,
        estimate.needed(rest.confidence),
        0.0 if wanted.target is None else estimate.left_to_people(sure, wanted.target),
        _sizes(project, rest, wanted, given), left_out,
    )  # fmt: skip


def _with_target(wanted: Wanted, K: int) -> Wanted:
    """With the least share that is promised where a number of wrong tasks is asked for. Raises InputError for a number
    with which nothing is."""
    if wanted.wrong is None:
        return wanted
    target = share_without(wanted.wrong, max(K - wanted.labels, 1))
    if target <= 0:
        raise InputError(
            f"--wrong {wanted.wrong}: {K} tasks are open and {wanted.labels} labels may be taken, so that all of the "
            "others may be wrong. Nothing is left to certify."
        )
    return replace(wanted, target=target)


def share_without(wrong: int, tasks: int) -> float:
    """The share of the tasks that is right where so many are wrong: rounded down, and below 1, as any target is."""
    return min(math.floor(TARGET_STEPS * (1 - wrong / tasks)), TARGET_STEPS - 1) / TARGET_STEPS


def _check_needed(store: Store, project: Project, wanted: Wanted) -> None:
    """Raise InputError where an earlier estimate shows that all of the rest is right enough already."""
    decided = audits.every(store, project.id, purpose=audits.CERTIFICATE, status=audits.DECIDED)
    for audit in reversed(decided if wanted.target is not None else []):
        found = accuracy_of(store, project.id, audit)
        same = audit.version == project.published_version
        if same and found is not None and found.estimate and found.estimate.low >= (wanted.target or 0):
            raise InputError(
                f"{audit.id} shows that at least {found.estimate.low:.1%} of the open tasks are right: a target of "
                f"{wanted.target:g} needs no other audit. Choose a higher one."
            )


def accuracy_of(store: Store, project_id: int, audit: Audit) -> Figure | None:
    """The accuracy of the rest by the first answers of an audit; None where it was not drawn from all of the rest."""
    part = audit.parts[0]
    if len(audit.parts) > 1 or part.kind != "simple" or part.region != part.tasks or part.label:
        return None
    answers, rest = audit_answers.of(store, project_id, audit), audits.frozen_of(store, project_id, audit.id)
    first = slice(answers.in_turn)
    return estimate.accuracy(answers.right[first], answers.confidence[first], rest.confidence)


def _parts(project: Project, rest: Frozen, wanted: Wanted) -> tuple[IntArray, tuple[Part, ...], tuple[str, ...]]:
    """The places of the rest part after part, how each part is drawn, and a line for each class without one."""
    K = len(rest.task_ids)
    if wanted.target is None:
        return np.arange(K), (Part("simple", wanted.labels, K, 1, K, wanted.alpha),), ()
    if wanted.whole:
        part = Part("weighted", wanted.labels, K, K, K, wanted.alpha, "", wanted.wrong, FLOOR, STAKE)
        return np.arange(K), (part,), ()
    if not wanted.by_class:
        return np.arange(K), (_part(_outlook(rest, wanted, wanted.labels), wanted.alpha),), ()
    classes = _by_class(project, rest, wanted, wanted.labels)
    parts = tuple(_part(part.before, part.alpha, part.label) for part in classes.parts)
    rows = np.concatenate([part.members for part in classes.parts])
    return rows, parts, tuple(row.line for row in classes.left_out)


def _part(before: Outlook, alpha: float, label: str = "") -> Part:
    design = before.design
    return Part(design.kind, design.labels, design.region, design.start, design.tasks, alpha, label)


def _outlook(rest: Frozen, wanted: Wanted, size: int) -> Outlook:
    rng = stream(wanted.seed, "audit outlook", [size])
    return outlook(rest.confidence, size, share_of(wanted.target or 0), wanted.alpha, rng=rng)


def _prospect(rest: Frozen, wanted: Wanted, size: int, given: int) -> Prospect:
    """What a whole audit of at most `size` labels will likely bring after `given` ones, as in `mollm finish`."""
    allowed = share_of(wanted.target or 0) if wanted.wrong is None else fixed_number(wanted.wrong)
    doubt = doubt_of(rest.confidence, given)
    return prospect(doubt, size, allowed, wanted.alpha, off(doubt, given))


def _by_class(project: Project, rest: Frozen, wanted: Wanted, size: int) -> by_class.ClassPlan:
    key, rng = project.decision.key, stream(wanted.seed, "audit outlook", [size])
    return by_class.plan(
        rest.codes[key], rest.confidence, rest.names[key], size,
        target=wanted.target or 0, alpha=wanted.alpha, rng=rng,
    )  # fmt: skip


def _sizes(project: Project, rest: Frozen, wanted: Wanted, given: int) -> tuple[Size, ...]:
    if wanted.target is None:
        return ()
    K = len(rest.task_ids)
    asked = sorted({size for size in (*SIZES, wanted.labels) if size <= K})
    return tuple(_size(project, rest, wanted, size, given) for size in asked)


def _size(project: Project, rest: Frozen, wanted: Wanted, size: int, given: int) -> Size:
    if wanted.whole:
        likely = _prospect(rest, wanted, size, given)
        share = float(likely.reached[-1])
        taken = float(likely.expected[-1])
        return Size(size, share * (1 - taken / len(rest.task_ids)), refused=1 - share, expected=taken)
    if not wanted.by_class:
        found = _outlook(rest, wanted, size)
        return Size(size, found.share, found.low, found.high, found.refused)
    try:
        parts = _by_class(project, rest, wanted, size).parts
    except InputError as error:
        return Size(size, why=str(error))
    accepted = sum(part.before.share * (part.before.design.tasks - part.before.design.labels) for part in parts)
    refused = float(np.prod([part.before.refused for part in parts]))
    return Size(size, accepted / max(1, len(rest.task_ids) - size), refused=refused)
