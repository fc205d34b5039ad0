"""All that the page of one project shows, as plain data: from the store and the queue, and figures as jobs noted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from math import ceil
from typing import Any

import redis

from mollm_backend.labelstudio.label_config import lines_of
from mollm_backend.store import Store, audits, events, notes, projects, signals, versions
from mollm_backend.store.projects import Project
from mollm_backend.store.versions import Version
from mollm_backend.view import batch, doing, doubts, quality, summary
from mollm_backend.view.template import safe_url
from mollm_backend.work import budget, progress
from mollm_backend.work.progress import Progress

HISTORY = 20  # versions that a page lists: as many as one sees at a glance
EVENTS = 20  # lines of what happened: a screen of them


def state(
    store: Store, connection: redis.Redis, project: Project,
    *, standing: Mapping[str, Any] | None = None, reading: Progress | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Everything that the page of a project shows, JSON-able.

    `standing`: what `mollm_backend.jobs.standing` found just now, `reading`: what was counted just now (None: what a
    job noted last).
    """
    noted = notes.read(store, project.id, [notes.STANDING]).get(notes.STANDING, notes.Note())
    known = noted.body if standing is None else standing
    reading = reading or progress.newest(store, connection, project)
    history = versions.brief(store, project.id, HISTORY)
    published = _published(store, project, history)
    detail = versions.detail(store, project.id, published.id) if published else {}
    found = _identity(project) | _counts(store, project, reading) | {
        "version": None if published is None else _version(published),
        "no_version": "" if published else _why_no_version(project, reading),
        "history": [_version(row) for row in history], "versions": versions.number(store, project.id),
        "people": {"lines": []} | detail.get("people", {}), "trust": _trust(store, project), "noted_at": noted.at,
        "audit": known.get("audit"), "certificate": known.get("certificate"), "figures": known.get("figures"),
        "finish": known.get("finish"),
        "batch": batch.of_project(store, project, known.get("batch_size")),
        "suspects": doubts.of_project(store, project, detail),
        "jobs": doing.of_project(store, connection, project, reading),
        "costs": _costs(store, project),
        "events": [asdict(row) for row in events.newest(store, EVENTS, project_id=project.id)],
    } | quality.of_project(project, published, history, detail, known)  # fmt: skip
    return found | {"summary": summary.of(found), "failing": [row["line"] for row in found["jobs"]["failing"]]}


def status(store: Store, connection: redis.Redis) -> dict[str, Any]:
    """The `projects` with their states, and what they share."""
    return shared(store, connection) | {"projects": [state(store, connection, row) for row in projects.every(store)]}


def shared(store: Store, connection: redis.Redis, project_id: int | None = None) -> dict[str, Any]:
    """`queues` and in words what `waits` there; the `costs` of the LLMs and the newest `events`, of one project or of
    all."""
    waiting = doing.waiting(connection)
    return {
        "queues": waiting, "waits": doing.in_words(waiting),
        "costs": {name: asdict(cost) for name, cost in signals.costs(store, project_id).items()},
        "events": [asdict(event) for event in events.newest(store, 2 * EVENTS, project_id=project_id)],
    }  # fmt: skip


def _identity(project: Project) -> dict[str, Any]:
    """What it is, where it lies in Label Studio, and to what it is pinned. No link but to http or https."""
    address = f"{project.url.rstrip('/')}/projects/{project.id}/data"
    pin = {
        "version": project.published_version, "since": project.pinned_at, "until_next": project.pinned_until_next,
        "line": project.pin,
    }  # fmt: skip
    one = len(project.decisions) == 1
    return {
        "id": project.id, "title": project.title, "url": safe_url(address), "connected": project.connected,
        "attention": project.attention, "reconciled_at": project.reconciled_at,
        "labels": list(project.decision.labels.names) if one else lines_of(project.decisions),
        "pinned": pin if project.pinned_at else None,
    }  # fmt: skip


def _counts(store: Store, project: Project, reading: Progress) -> dict[str, Any]:
    """Tasks, labels, and what the panel has read."""
    away = signals.absent(store)
    owed = reading.left_by_name(project)
    return {
        "tasks": reading.tasks, "unreadable": reading.unreadable, "open": max(reading.readable - reading.closed, 0),
        "human_labels": reading.people, "provenance": reading.how,
        "read": {name: reading.readable - ceil(left / project.questions) for name, left in owed.items()},
        "away": {row.name: away[row.fingerprint].reason for row in project.panel if row.fingerprint in away},
        "budget": budget.state(store, project),
    }  # fmt: skip


def _published(store: Store, project: Project, history: list[Version]) -> Version | None:
    """The published version, with its brief facts; it may be older than those that are listed."""
    listed = next((row for row in history if row.id == project.published_version), None)
    return listed or versions.brief_of(store, project.id, project.published_version)


def _version(version: Version) -> dict[str, Any]:
    facts = version.facts
    return {
        "id": version.id, "round": version.round, "status": version.status, "human_labels": version.human_labels,
        "created_at": version.created_at, "scores": facts.get("scores", {}), "accuracy": version.accuracy,
        "notes": facts.get("notes", []), "gate": facts.get("gate", ""), "pool": facts.get("pool", 0),
    }  # fmt: skip


def _why_no_version(project: Project, reading: Progress) -> str:
    if not project.connected:
        return "none: the project is disconnected"
    if not reading.tasks:
        return "none yet: there are no tasks"
    if reading.tasks == reading.unreadable:
        return "none: no task can be read (`mollm doctor` says why)"
    return "none yet: the panel is still reading"


def _trust(store: Store, project: Project) -> list[str]:
    """How far the open audit is, and what a job last noted of audits, certificates and the plan."""
    audit = audits.newest(store, project.id, status=audits.OPEN)
    found = list(project.trust.get("lines", []))
    if audit is None:
        return found
    total, left = sum(part.labels for part in audit.parts), len(audits.pending(store, project.id, audit.id))
    return [f"{audit.id}: {total - left} of {total} answered", *found]


def _costs(store: Store, project: Project) -> dict[str, Any]:
    """By annotator what this project has cost, with the share of texts that it abstained on, and texts a second."""
    return {
        name: asdict(cost)
        | {"abstained_share": cost.abstained / cost.texts if cost.texts else None,
           "texts_a_second": cost.texts / cost.seconds if cost.seconds else None}
        for name, cost in signals.costs(store, project.id).items()
    }  # fmt: skip
