"""Decide on an audit at the target that it was planned for: once for each of its planned looks; on a whole one as soon
as its answers suffice."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from mollm.acceptance.certificate import Certified, certify, share_of
from mollm.acceptance.refusal import more, reachable
from mollm.errors import InputError
from mollm.records import BoolArray, IntArray
from mollm_backend.jobs.audit_outlook import share_without
from mollm_backend.jobs.auditing import bet_of, design_of
from mollm_backend.labelstudio.label_config import read
from mollm_backend.labelstudio.left_to_people import lacks
from mollm_backend.store import Store, audit_answers, audits, certificates, frozen, labels, tasks
from mollm_backend.store.audit_answers import Answers
from mollm_backend.store.audits import Audit, Part
from mollm_backend.store.certificates import Accepted, Certificate
from mollm_backend.store.projects import Project

EARLY = 30  # answers of a whole audit up to which nothing is said of how many more it takes: a guess from fewer is none


@dataclass(frozen=True)
class Look:
    """One look at an audit: the number of the look, and the first `count` answers, which it reads."""

    audit: Audit
    number: int
    answers: Answers
    count: int

    @property
    def last(self) -> bool:
        return self.number == self.audit.looks


def audit_of(
    store: Store, project: Project, target: float | None, confidence: float | None, *, by_class: bool
) -> Audit:  # fmt: skip
    """The newest audit for a certificate, where it was planned for what is asked (None: as it was planned).

    Raises InputError, with what to do, for a promise that cannot be made or that was not planned.
    """
    _possible(target, confidence)
    audit = audits.newest(store, project.id)
    wanted = f"{0.95 if target is None else target:g}".removeprefix("0")
    plan = f"`mollm audit {project.id} --labels 300 --target {wanted}` plans one"
    if audit is None:
        raise InputError(f"Project {project.id} has no audit: nothing is known of what nobody labelled. {plan}.")
    if audit.target is None:
        raise InputError(f"{audit.id} was planned for an estimate, without a target: {plan}.")
    if audit.status == audits.WITHDRAWN:
        raise InputError(f"{audit.id} was withdrawn ({audit.note}): {plan}.")
    asked = {"target": target, "confidence": confidence, "by-class": by_class or None}
    planned = {"target": audit.target, "confidence": audit.confidence, "by-class": any(p.label for p in audit.parts)}
    for name, value in asked.items():
        if value is not None and value != planned[name]:
            raise InputError(
                f"{audit.id} was planned for --{name} {planned[name]}, not {value}: what is promised cannot be chosen "
                f"after the audit was opened. {plan}, with the options that you want."
            )
    if audit.label_config_digest != audits.asked_digest(project.decisions) and audit.status == audits.OPEN:
        raise InputError(
            f"The label config asks for something else than when {audit.id} was made: "
            f"`mollm audit {project.id} --cancel`, then {plan}."
        )
    return audit


def _possible(target: float | None, confidence: float | None) -> None:
    """Raise InputError for shares that no audit can promise."""
    if confidence is not None and not 0 < confidence < 1:
        raise InputError(f"No audit gives a confidence of {confidence:g}: choose above 0 and below 1, such as .95.")
    if target is not None and not 0 < target < 1:
        alpha = 1 - (confidence or 0.95)
        needed = math.ceil(math.log(alpha) / math.log(0.99))
        raise InputError(
            f"A target of {target:g} cannot be promised from a part of the tasks: choose above 0 and below 1; at .99, "
            f"{needed} audits without an error would suffice. For 1, people label every task."
        )


def ready(store: Store, project: Project, audit: Audit, *, now: bool) -> Look:
    """The next look, where its answers are there. `now`: a planned look before all are. Raises InputError otherwise.

    A whole audit is looked at as often as one likes, but decided only when its answers suffice or all are there.
    """
    answers = audit_answers.of(store, project.id, audit)
    used = max((row.look for row in certificates.of_audit(store, project.id, audit.id)), default=0)
    if answers.complete:
        return Look(audit, audit.looks, answers, answers.total)
    line = f"{audit.id}: {answers.line()}"
    if audit.whole:
        look = Look(audit, audit.looks, answers, answers.in_turn)
        if not _found(look, 0).tasks:
            raise InputError(f"{line}. {evidence(look)} Nothing was decided: ask again after more answers.")
        return look
    if not now:
        raise InputError(f"{line}: {answers.total - len(answers.right)} are missing. Nothing was decided.")
    if any(part.kind != "simple" for part in audit.parts):
        raise InputError(f"{line}. It is read only as a whole: {answers.total - len(answers.right)} are missing.")
    turns = {look: math.ceil(answers.total * look / audit.looks) for look in range(used + 1, audit.looks)}
    if not turns:
        raise InputError(f"{line}. No earlier look is planned: {answers.total - len(answers.right)} are missing.")
    there = [look for look, count in turns.items() if count <= answers.in_turn]
    if not there:
        missing = min(turns.values()) - answers.in_turn
        raise InputError(f"{line}. The next planned look is at {min(turns.values())} in turn: {missing} are missing.")
    return Look(audit, there[-1], answers, turns[there[-1]])


def decide(store: Store, project: Project, look: Look) -> Certificate:
    """Decide and store it with what is accepted. A look that was decided already is returned as it was."""
    audit, target = look.audit, look.audit.target or 0.0
    begins = np.concatenate([[0], np.cumsum([part.tasks for part in audit.parts])])
    covered, results, notes = list[IntArray](), list[dict[str, object]](), list[str]()
    for p, part in enumerate(audit.parts):
        places, wrong = _of_part(look, p)
        found = _found(look, p)
        covered.append(begins[p] + np.setdiff1d(np.arange(found.tasks), places))
        results.append({"label": part.label, "of": part.tasks, "tasks": found.tasks, "audits": found.audits,
                        "errors": found.errors, "unlabelled": found.accepted})  # fmt: skip
        if not found.tasks:
            notes.append(evidence(look) if audit.whole else _suffices(part, places, wrong, target))
    rows, lost = _accepted(store, project, audit, np.concatenate(covered))
    tasks_, n, e = (sum(int(str(row[key])) for row in results) for key in ("tasks", "audits", "errors"))
    if lost:
        notes.append(lost)
    made = Certificate(
        audit.id, look.number, tasks_, n, e, len(rows), _promised(audit, tasks_ - n), audit.confidence, results,
        certificates.GRANTED if tasks_ else certificates.REFUSED, " ".join(notes),
    )  # fmt: skip
    return certificates.save(store, project.id, made, rows, last=look.last or bool(tasks_))


def _promised(audit: Audit, tasks: int) -> float:
    """The share of so many accepted tasks that is right: the target, or what the number that may be wrong leaves."""
    target, wrong = audit.target or 0.0, audit.parts[0].wrong
    return target if wrong is None or tasks < 1 else max(target, share_without(wrong, tasks))


def _of_part(look: Look, p: int) -> tuple[IntArray, BoolArray]:
    """(n,) the places of a part's tasks whose answers a look reads, and whether the prediction there is wrong."""
    mine = look.answers.part[: look.count] == p
    return look.answers.place[: look.count][mine], ~look.answers.right[: look.count][mine]


def _found(look: Look, p: int) -> Certified:
    """What a look certifies of a part."""
    part, target = look.audit.parts[p], look.audit.target or 0.0
    places, wrong = _of_part(look, p)
    if part.kind == "weighted":
        return bet_of(part, target).certified(look.answers.probability[: look.count], wrong, part.alpha)
    return certify(design_of(part), places, wrong, share_of(target), part.alpha)


def evidence(look: Look) -> str:
    """How far a whole audit's answers are from a certificate, in words."""
    part, target = look.audit.parts[0], look.audit.target or 0.0
    wrong = _of_part(look, 0)[1]
    bet, probability = bet_of(part, target), look.answers.probability[: look.count]
    reached = float(bet.evidence(probability, wrong)[-1]) if len(wrong) else 1.0
    line = f"{wrong.sum()} of the first {len(wrong)} are wrong: the evidence is {reached:.3g} of {1 / part.alpha:.3g}."
    if _found(look, 0).tasks:
        return f"{line} It suffices: `mollm accept` certifies the rest."
    if len(wrong) < EARLY:
        return line
    now = float(bet.wealth(probability, wrong)[-1])
    if now <= 1:
        return f"{line} So far it does not grow: more labels and another version may be better."
    further = len(wrong) * (math.log(1 / part.alpha) / math.log(now) - 1)
    return f"{line} At this pace it suffices after some {max(further, 1):.0f} more answers."


def _accepted(store: Store, project: Project, audit: Audit, covered: IntArray) -> tuple[list[Accepted], str]:
    """The covered tasks that nobody has labelled and that are as they were; and what became of the others, in words."""
    rest = audits.frozen_of(store, project.id, audit.id)
    ids = [int(task_id) for task_id in rest.task_ids[covered]]
    there = tasks.some(store, project.id, ids)
    closed = labels.closed_tasks(labels.every(store, project.id, ids))
    codes = dict(zip(ids, rest.texts[covered], strict=True))
    same = {task_id for task_id, row in there.items() if frozen.text_codes([row.text_key])[0] == codes[task_id]}
    places, still_open = [(int(place), task_id) for place, task_id in zip(covered, ids, strict=True)], same - closed
    rows = [Accepted(task_id, rest.labels_at(place, project.decisions), there[task_id].text_key)
            for place, task_id in places if task_id in still_open]  # fmt: skip
    left = read(project.label_config).left if "required" in project.label_config else ()
    needed = {row.task_id: lack for row in rows if (lack := lacks(left, project.decisions, row.labels)) is not None}
    rows = [row for row in rows if row.task_id not in needed]
    labelled, gone = len(closed & same), len(ids) - len(same)
    words = [f"{labelled} of the tasks were labelled meanwhile."] if labelled else []
    if needed:
        names = " and ".join(sorted({f"{lack.tag} {lack.name!r}" for lack in needed.values()}))
        words.append(f"{len(needed)} of the tasks are left to people, who must fill {names} there.")
    words += [f"{gone} of the tasks were edited or deleted and are left to people."] if gone else []
    return rows, " ".join(words)


def _suffices(part: Part, places: IntArray, wrong: BoolArray, target: float) -> str:
    """After a refusal: what would have sufficed, in words."""
    design = design_of(part)
    number, lower = more(design, places, wrong, target, part.alpha), reachable(design, places, wrong, part.alpha)
    who = f"{part.label}: " if part.label else ""
    enough = (
        f"about {number} audits would suffice, were as many of them wrong"
        if number
        else "no number of audits would suffice at this share of errors: more labels and another version may"
    )
    would = (
        "" if lower is None else f" They would have certified a target of {lower:g} (no promise: not chosen before)."
    )
    return f"{who}{wrong.sum()} of {len(wrong)} audits are wrong; {enough}.{would}"
