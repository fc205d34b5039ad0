"""The status page: what happened and what waits, from the store; how far the reading is, as a worker noted it."""

from __future__ import annotations

from dataclasses import asdict
from functools import cache
from math import ceil
from typing import Any

import jinja2
import redis

from mollm_backend.labelstudio import publish
from mollm_backend.labelstudio.label_config import lines_of
from mollm_backend.store import Store, audits, batches, events, labels, projects, signals, versions
from mollm_backend.store.projects import Project
from mollm_backend.work import budget, progress, queues
from mollm_backend.work.progress import Progress

HISTORY = 20  # versions that the page lists: as many as one sees at a glance


def status(store: Store, connection: redis.Redis) -> dict[str, Any]:
    """Everything that the page shows, as plain data (also served as JSON)."""
    try:
        waiting = queues.waiting(connection)
    except redis.RedisError:
        waiting = {}
    failed = failing(connection)
    return {
        "projects": [
            _project(store, project, progress.newest(store, connection, project))
            | {"failing": failures(store, project, failed)}
            for project in projects.every(store)
        ],
        "queues": waiting,
        "waits": _waits(waiting),
        "costs": {name: asdict(cost) for name, cost in signals.costs(store).items()},
        "events": [asdict(event) for event in events.newest(store, 40)],
    }


def _waits(waiting: dict[str, Any]) -> str:
    if not waiting:
        return "the queue is not reachable: start mollm up"
    running = [job for state in waiting.values() for job in state["running"]]
    count = sum(state["waiting"] for state in waiting.values())
    if not running and not count:
        return "nothing waits"
    return f"running: {', '.join(running) or 'nothing'}; {count} jobs wait"


def failing(connection: redis.Redis) -> dict[str, int]:
    """`queues.failing`, or nothing where the queue does not answer."""
    try:
        return queues.failing(connection)
    except redis.RedisError:
        return {}


def failures(store: Store, project: Project, failing: dict[str, int]) -> list[str]:
    """A line for each job of a project that failed and was not done since, with its last message."""
    found = []
    for identity, times in sorted(failing.items()):
        name, _, rest = identity.partition("-")
        if rest.split("-")[0] == str(project.id):
            newest = events.newest(store, 500, project_id=project.id)
            last = next(
                (row.line for row in newest if row.kind == "problem" and row.line.startswith(f"{name}: ")), name
            )
            found.append(f"the worker failed {times} {'time' if times == 1 else 'times'}, at last: {last}")
    return found


def _reading(project: Project, found: Progress) -> str:
    """Why there is no version yet."""
    if not project.connected:
        return "none: the project is disconnected"
    if not found.tasks:
        return "none yet: there are no tasks"
    if found.tasks == found.unreadable:
        return "none: no task can be read (`mollm doctor` says why)"
    return "none yet: the panel is still reading"


def _project(store: Store, project: Project, found: Progress) -> dict[str, Any]:
    readable = found.tasks - found.unreadable
    version = versions.find(store, project.id, project.published_version)
    entries = batches.entries(store, project.id, project.batch_version or "")
    still_open = batches.waiting(store, project.id, project.batch_version or "")
    away = signals.absent(store)
    return {
        "id": project.id, "title": project.title, "url": f"{project.url.rstrip('/')}/projects/{project.id}/data",
        "connected": project.connected, "attention": project.attention, "reconciled_at": project.reconciled_at,
        "labels": _labels(project), "tasks": found.tasks, "unreadable": found.unreadable,
        "open": max(readable - labels.closed_count(store, project.id), 0), "pinned": _pinned(project),
        "no_version": _reading(project, found),
        "read": {
            name: readable - ceil(left / len(project.decisions)) for name, left in found.left_by_name(project).items()
        },
        "away": {row.name: away[row.fingerprint].reason for row in project.panel if row.fingerprint in away},
        "budget": budget.state(store, project),
        "human_labels": labels.count(store, project.id), "trust": _trust(store, project),
        "provenance": labels.how(store, project.id),
        "people": {} if version is None else version.facts.get("people", {}),
        "version": None if version is None else _version(version),
        "history": [_version(row) for row in versions.every(store, project.id, HISTORY)],
        "batch": {
            "version": project.batch_version, "tasks": len(entries),
            "open": len(still_open),
            "published": sum(entry.published_at is not None for entry in entries),
            "next": [
                asdict(entry) | {"place": place}
                for place, entry in enumerate(publish.as_people_see(store, project, still_open[:10]), 1)
            ],
        },
    }  # fmt: skip


def _labels(project: Project) -> list[str]:
    """The labels of the only decision, or what each control asks."""
    if len(project.decisions) == 1:
        return list(project.decision.labels.names)
    return lines_of(project.decisions)


def _trust(store: Store, project: Project) -> list[str]:
    """How far the open audit is, and what a job last noted of audits, certificates and the plan."""
    audit = audits.newest(store, project.id, status=audits.OPEN)
    found = list(project.trust.get("lines", []))
    if audit is None:
        return found
    total, left = sum(part.labels for part in audit.parts), len(audits.pending(store, project.id, audit.id))
    return [f"{audit.id}: {total - left} of {total} answered", *found]


def _pinned(project: Project) -> dict[str, Any] | None:
    """To what the project is pinned, and the line that says so; None where it is not."""
    if not project.pinned_at:
        return None
    return {
        "version": project.published_version, "since": project.pinned_at, "until_next": project.pinned_until_next,
        "line": project.pin,
    }  # fmt: skip


def _version(version: versions.Version) -> dict[str, Any]:
    facts = version.facts
    return {
        "id": version.id, "round": version.round, "status": version.status, "human_labels": version.human_labels,
        "created_at": version.created_at, "scores": facts.get("scores", {}),
        "accuracy": version.accuracy, "notes": facts.get("notes", []),
        "gate": facts.get("gate", ""), "pool": facts.get("pool", 0),
    }  # fmt: skip


def percent(share: dict[str, Any]) -> str:
    """A share with its 95 % interval, where it has one."""
    interval = "" if share["low"] is None else f" [{share['low']:.1%}, {share['high']:.1%}]"
    return f"{share['value']:.1%}{interval}"


def page(state: dict[str, Any]) -> str:
    """The page as HTML; every value is escaped."""
    return _template().render(state=state)


@cache
def _template() -> jinja2.Template:
    loader = jinja2.PackageLoader("mollm_backend.web", "")
    environment = jinja2.Environment(loader=loader, autoescape=True)
    environment.filters["percent"] = percent
    return environment.get_template("status.html")
