"""The classifier of a project's published version as a model that transformers loads alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from mollm.errors import InputError, ModelFileError
from mollm.round import as_model
from mollm_backend.jobs.pools import DecisionPool, read_pools
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.settings import Settings
from mollm_backend.store import Store, versions
from mollm_backend.store.projects import Project
from mollm_backend.work import queues


def write(
    settings: Settings, store: Store, project: Project, directory: Path, tell: Callable[[str], None]
) -> list[str]:
    """Write it, of several decisions each into a directory of its name; returns lines for people.

    Raises InputError where nothing is published yet, ModelFileError without an encoder.
    """
    if project.published_version is None:
        raise InputError(f"Project {project.id} has no published version yet: see `mollm status {project.id}`.")
    runtime = Runtime(settings, store, queues.connect(settings.queue_url))
    encoder = runtime.encoder()
    if encoder is None:
        raise ModelFileError(f"There is no encoder {settings.encoder!r}: `mollm prepare` fetches it.")
    lines = []
    for pool in read_pools(runtime, project):
        name = re.sub(r"[^\w.-]+", "-", pool.decision.name)
        target = directory / name if pool.decision.key else directory
        target.parent.mkdir(parents=True, exist_ok=True)
        lesson = _lesson(store, project, pool)
        facts = {
            "project": project.title,
            "decision": pool.decision.name,
            "published version": project.published_version,
            "encoder": encoder.directory.name,
            "human labels": lesson.targets.H,
            "texts": len(lesson.texts),
        }
        found = as_model.write(lesson, encoder, target, facts, 0, tell)
        lines += [f"{target}: {line}" for line in found.lines()]
    return lines


def _lesson(store: Store, project: Project, pool: DecisionPool) -> as_model.Lesson:
    rows = versions.of_tasks(store, project.id, project.published_version or "")
    probs = np.full((len(pool.tasks), pool.signals.C), np.nan)
    for n, task in enumerate(pool.tasks):
        row = rows.get(task.task_id, {}).get(pool.decision.key)
        if row is not None and row.text_key == task.text_key and len(row.probs) == pool.signals.C:
            probs[n] = row.probs
    return as_model.Lesson(pool.decision.labels.names, [task.text or "" for task in pool.tasks], pool.targets, probs)
