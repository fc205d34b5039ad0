"""How far an audit is, what it shows, and what it no longer covers: for `mollm audit` and `mollm report`."""

from __future__ import annotations

from typing import Any

import numpy as np

from mollm.acceptance.estimate import pooled
from mollm_backend.jobs.audit_outlook import accuracy_of
from mollm_backend.jobs.certifying import Look, evidence
from mollm_backend.store import Store, audit_answers, audits, frozen
from mollm_backend.store.audits import Audit
from mollm_backend.store.projects import Project


def state(store: Store, project: Project) -> dict[str, Any] | None:
    """The last audit of a project as JSON, under `standing` what is drawn at random of each batch; None without any."""
    audit = audits.newest(store, project.id)
    standing = _standing(store, project)
    if audit is None:
        return None if standing is None else {"id": None, "lines": [standing["line"]], "standing": standing}
    answers = audit_answers.of(store, project.id, audit)
    figure = None
    if audit.target is None or audit.status == audits.DECIDED:
        figure = accuracy_of(store, project.id, audit)
    notes = drift(store, project, audit)
    lines = [f"{audit.id} of {audit.version}, {_purpose(audit)}: {answers.line()}", *notes]
    if figure is not None and answers.in_turn:
        lines.append(f"right on the tasks that were open then: {figure.line()}")
    if audit.whole and audit.status == audits.OPEN:
        lines.append(evidence(Look(audit, audit.looks, answers, answers.in_turn)))
    lines += [standing["line"]] if standing else []
    return {
        "id": audit.id, "version": audit.version, "status": audit.status, "note": audit.note, "target": audit.target,
        "confidence": audit.confidence, "looks": audit.looks, "made_at": audit.made_at,
        "classes": [part.label for part in audit.parts if part.label], "tasks": sum(part.tasks for part in audit.parts),
        "total": answers.total, "answered": len(answers.right), "skipped": answers.skipped, "lost": answers.lost,
        "shown": answers.shown, "complete": answers.complete, "notes": notes,
        "accuracy": None if figure is None else figure.as_json(), "standing": standing, "lines": lines,
    }  # fmt: skip


def _purpose(audit: Audit) -> str:
    what = "for an estimate" if audit.target is None else f"at the target {audit.target:g}"
    return f"{what}, {audit.status}" + (f" ({audit.note})" if audit.note else "")


def _standing(store: Store, project: Project) -> dict[str, Any] | None:
    """The tasks that were drawn at random from the open ones of the published version; None where none was."""
    drawn = [
        audit
        for audit in audits.every(store, project.id, purpose=audits.STANDING, status=audits.OPEN)
        if audit.version == project.published_version
    ]
    if not drawn:
        return None
    found = [audit_answers.of(store, project.id, audit) for audit in drawn]
    total, answered = sum(row.total for row in found), sum(len(row.right) for row in found)
    # Those answered in their turn: what people happened to answer first of the others may be the easier ones.
    figure = pooled([row.right[: row.in_turn] for row in found])
    line = f"drawn at random from the open tasks, for each batch: {answered} of {total} answered"
    if figure.n:
        line += f"; right on those tasks when they were drawn: {figure.line()}"
    return {
        "audits": [audit.id for audit in drawn], "total": total, "answered": answered,
        "accuracy": figure.as_json(), "line": line,
    }  # fmt: skip


def drift(store: Store, project: Project, audit: Audit) -> list[str]:
    """What an open audit no longer covers: the open tasks are not those that it was drawn from. A line each."""
    if audit.status != audits.OPEN:
        return []
    if audit.label_config_digest != audits.asked_digest(project.decisions):
        return ["the labels have changed since: it says nothing of what is asked now"]
    then = audits.frozen_of(store, project.id, audit.id)
    ids, texts = audits.texts_now(store, project.id)
    place = np.clip(np.searchsorted(ids, then.task_ids), 0, max(len(ids) - 1, 0))
    same = (ids[place] == then.task_ids) & (texts[place] == then.texts) if len(ids) else np.zeros(len(then.task_ids))
    changed = int(len(same) - np.count_nonzero(same))
    fresh = int(np.count_nonzero(~np.isin(frozen.open_ids(store, project), then.task_ids)))
    found = (
        [f"{changed} of its {len(same)} tasks are edited or deleted since: it does not cover them"] if changed else []
    )
    if fresh:
        found.append(f"it does not cover {fresh} other open tasks: they are new, edited, or of a class left out")
    return found
