"""A training that a person asked for: whether there is anything to learn, and what it waits for."""

from __future__ import annotations

import redis

from mollm_backend.store import Store, audits, labels, signals, versions
from mollm_backend.store.projects import Project
from mollm_backend.store.versions import Version
from mollm_backend.work import progress, queues, workers


def changed(store: Store, project: Project, version: Version) -> int:
    """How many of people's labels are new or changed since a version learned, without those of an open audit."""
    if version.facts.get("labels_at") == labels.revision(store, project.id):
        return 0
    rows = audits.usable(store, project.id)
    human = [labels.human_labels(rows, decision.key) for decision in project.decisions]
    return len(labels.row_keys(*human) ^ set(version.facts.get("label_rows", [])))


def nothing_to_learn(store: Store, project: Project) -> str:
    """Why a training would learn nothing, by the labels that are in the store; "" where it would learn something."""
    if not labels.count(store, project.id):
        first = (
            "" if project.published_version else " The first version needs none: it comes once the panel has read all."
        )
        return f"People have not labelled any task of project {project.id} yet, so there is nothing to learn.{first}"
    newest = versions.newest(store, project.id)
    if newest is None or newest.facts.get("panel") != project.fingerprints or changed(store, project, newest):
        return ""
    return f"No label is new or changed since {newest.id}, so there is nothing to learn."


def unseen(connection: redis.Redis, project_id: int) -> bool:
    """Whether something happened in Label Studio that no worker has taken in yet. Raises redis.RedisError."""
    return queues.nudges(connection, project_id) != queues.nudges_done(connection, project_id)


def waits_for(store: Store, connection: redis.Redis, project: Project) -> str:
    """What a training that was asked for waits for, in words. Raises redis.RedisError."""
    if not workers.every(connection):
        return "it waits for a worker: `mollm up` starts one"
    if queues.held(connection, queues.job_id("train", project.id)):
        return "it waits because the last training failed; it is tried again by itself"
    if queues.held(connection, queues.job_id("reconcile", project.id)):
        return "it waits because Label Studio could not be read; that is tried again by itself"
    if unseen(connection, project.id):
        return "it waits until the newest labels are read from Label Studio"
    found, newest = progress.newest(store, connection, project), versions.newest(store, project.id)
    if newest is None or newest.facts.get("panel") != project.fingerprints:
        away = signals.absent(store)
        owed = {name: left for name, left in found.left_by_name(project).items() if left}
        if owed:
            more = " (away ones are not waited for)" if away else ""
            return f"it waits for the panel: {progress.in_words(owed, 'to read')}{more}"
    busy = [row for row in progress.running(connection, project.id) if row.what != "training"]
    if busy:
        return f"it waits until the worker is free: {busy[0].line()}"
    return "it waits for its turn in the queue"
