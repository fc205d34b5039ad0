"""What is being done: what runs, what waits, and what failed, of one project or of all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import redis

from mollm_backend.store import Store, events
from mollm_backend.store.projects import Project
from mollm_backend.work import progress, queues
from mollm_backend.work.progress import Progress

# Jobs by the name of their function, in words.
WORDS = {
    "train": "training", "publish": "publishing the batch", "reconcile": "reading Label Studio",
    "annotate": "reading by an LLM", "predict": "predicting new texts", "accept": "writing accepted tasks",
    "prune": "clearing away", "act": "what somebody asked for",
}  # fmt: skip


def of_project(store: Store, connection: redis.Redis, project: Project, reading: Progress) -> dict[str, Any]:
    """`reachable`: whether the queue answers; `running`, with how far each is; `waiting`: ids; `failing`, with the last
    error; `asked`: whether a training was asked for and has not begun; `left`: answers to read, by annotator."""
    found: dict[str, Any] = {"reachable": True, "running": [], "waiting": [], "failing": [], "asked": False}
    try:
        found["running"] = [row.as_json() for row in progress.running(connection, project.id)]
        found["waiting"] = queues.of_project(_queued(connection), project.id)
        failing = queues.failing(connection)
        mine = sorted(queues.of_project(failing, project.id))
        found["failing"] = [failure(store, project, job, failing[job]) for job in mine]
        found["asked"] = bool(queues.training_requested(connection, project.id))
    except redis.RedisError:
        found["reachable"] = False
    return found | {"left": reading.left_by_name(project)}


def _queued(connection: redis.Redis) -> list[str]:
    return [str(job) for name in queues.QUEUES for job in queues.queue(connection, name).job_ids]


def number_of(job: str) -> int | None:
    """The project's number in a job's id, such as 7 in `train-7`; None where it has none."""
    parts = job.split("-")
    return int(parts[1]) if len(parts) > 1 and parts[1].isdecimal() else None


def failure(store: Store, project: Project, job: str, times: int) -> dict[str, Any]:
    """A job that failed and was not done since: its `words`, how often, the last message, and all of it in a `line`."""
    name = job.partition("-")[0]
    newest = events.newest(store, 500, project_id=project.id)
    last = next((row.line for row in newest if row.kind == "problem" and row.line.startswith(f"{name}: ")), name)
    line = f"the worker failed {times} {'time' if times == 1 else 'times'}, at last: {last}"
    return {"job": job, "words": WORDS.get(name, name), "times": times, "last": last, "line": line}


def failures(store: Store, project: Project, failing: Mapping[str, int]) -> list[str]:
    """A line for each job of a project among the `failing` (times by id)."""
    mine = sorted(queues.of_project(failing, project.id))
    return [str(failure(store, project, job, failing[job])["line"]) for job in mine]


def waiting(connection: redis.Redis) -> dict[str, Any]:
    """`queues.waiting`, or nothing where the queue does not answer."""
    try:
        return queues.waiting(connection)
    except redis.RedisError:
        return {}


def in_words(found: Mapping[str, Any]) -> str:
    """What `waiting` gave, in one line."""
    if not found:
        return "the queue is not reachable: start mollm up"
    running = [job for row in found.values() for job in row["running"]]
    count = sum(row["waiting"] for row in found.values())
    if not running and not count:
        return "no job waits"
    return f"running: {', '.join(running) or 'nothing'}; {count} {'job waits' if count == 1 else 'jobs wait'}"
