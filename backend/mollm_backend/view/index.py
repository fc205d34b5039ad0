"""The list of all projects: one line each. It says how far a project is, what waits, and what is wrong with it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import redis

from mollm_backend.store import Store, all_projects, events, projects, signals
from mollm_backend.store.projects import Project
from mollm_backend.store.signals import Absence
from mollm_backend.view import doing, template
from mollm_backend.work import budget, progress, queues
from mollm_backend.work.progress import Progress

EVENTS = 20  # lines of what happened, over all projects: as many as one sees at a glance


def state(store: Store, connection: redis.Redis) -> dict[str, Any]:
    """All that the page shows, as plain data: `projects` (one entry each), `now` and the newest `events`."""
    found = projects.every(store)
    waiting, failing = doing.waiting(connection), _failing(connection)
    running = {doing.number_of(job) for queue in waiting.values() for job in queue["running"]}
    learned, batches = all_projects.learned(store), all_projects.batches_open(store)
    audits = all_projects.audits_open(store)
    read = progress.of_all(store, connection, [project for project in found if project.connected])
    away = signals.absent(store)
    rows = []
    for project in found:
        number, far = project.id, read.get(project.id, Progress(0, 0, {}))
        lines = [work.line() for work in progress.running(connection, number)] if number in running else []
        warnings = _warnings(store, project, far, failing, away) if project.connected else []
        rows.append({
            "id": number, "title": project.title, "url": project.url, "connected": project.connected,
            "state": _state(project, far, learned.get(number, 0), lines),
            "labelled": min(far.closed, far.readable), "tasks": far.readable,
            "waits": _waits(project, batches.get(number, 0), audits.get(number)),
            "warning": warnings[0] if warnings else "", "more_warnings": max(len(warnings) - 1, 0),
        })  # fmt: skip
    return {
        "projects": rows,
        "now": doing.in_words(waiting),
        "events": [asdict(event) for event in events.newest(store, EVENTS)],
    }


def page(state: dict[str, Any]) -> str:
    """The list as HTML."""
    return template.render("index.html", state=state)


def _failing(connection: redis.Redis) -> dict[str, int]:
    """By job, how often it failed since it was last done; nothing where the queue does not answer."""
    try:
        return queues.failing(connection)
    except redis.RedisError:
        return {}


def _state(project: Project, far: Progress, labels: int, running: list[str]) -> str:
    """How far the project is, in words. `running`: a line for each long work that runs."""
    if not project.connected:
        return "disconnected"
    if not far.tasks:
        return "no tasks yet"
    version = f"{project.published_version}, from {labels} human labels" if project.published_version else ""
    whole = len(far.left) * far.readable
    if running:
        now = running[0]
    elif far.answered < whole:
        now = f"reading: {100 * far.answered // whole} % of the panel's answers"
    else:
        now = "" if version else "no version yet"
    return "; ".join(filter(None, [now, version]))


def _waits(project: Project, batch: int, audit: int | None) -> str:
    """What waits for people, in words; "" where nothing does."""
    if not project.connected:
        return ""
    asked = [f"{batch} {'task waits' if batch == 1 else 'tasks wait'} in the batch"] if batch else []
    if audit is not None:
        asked.append(f"{audit} in the audit" if audit else "an answered audit waits for its decision")
    return ", ".join(asked)


def _warnings(
    store: Store, project: Project, far: Progress, failing: dict[str, int], away: dict[str, Absence]
) -> list[str]:
    """What is wrong, in words, the worst first."""
    found = [project.attention] if project.attention else []
    found += doing.failures(store, project, failing)
    members = {member.name: away[member.fingerprint] for member in project.panel if member.fingerprint in away}
    found += [f"{name} is away: {absence.reason}" for name, absence in members.items()]
    spent = budget.state(store, project)
    if spent["paused"]:
        found.append(spent["line"])
    if project.pin:
        found.append(project.pin)
    if far.unreadable:
        found.append(f"{far.unreadable} of {far.tasks} tasks cannot be read: `mollm doctor {project.id}` says why")
    return found
