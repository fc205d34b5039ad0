"""Which tasks wait for the panel, and which it can never read: as runs of task ids."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from mollm_backend.store import Store
from mollm_backend.store.projects import Project
from mollm_backend.store.schema import predictions, tasks

Run = tuple[int, int]  # the first and the last id: all of the project's tasks between them are meant


@dataclass(frozen=True, slots=True)
class Reading:
    """`waiting`: the published version has not predicted their text yet; `unreadable`: there is no text."""

    waiting: tuple[Run, ...]
    unreadable: tuple[Run, ...]


def of_project(store: Store, project: Project) -> Reading:
    """How far the project's tasks are read."""
    same = (predictions.c.project_id == tasks.c.project_id, predictions.c.task_id == tasks.c.task_id)
    known = sa.exists().where(
        *same, predictions.c.version == project.published_version, predictions.c.text_key == tasks.c.text_key
    )
    unreadable = tasks.c.problem != ""
    query = sa.select(tasks.c.task_id, unreadable, known)
    query = query.where(tasks.c.project_id == project.id, tasks.c.deleted_at.is_(None)).order_by(tasks.c.task_id)
    with store.read() as connection:
        rows = [(task_id, bool(bad), bool(seen)) for task_id, bad, seen in connection.execute(query)]
    return Reading(
        _runs([(task_id, not bad and not seen) for task_id, bad, seen in rows]),
        _runs([(task_id, bad) for task_id, bad, _ in rows]),
    )


def _runs(rows: Sequence[tuple[int, bool]]) -> tuple[Run, ...]:
    """The runs of the ids that are meant, among all ids in their order."""
    found: list[Run] = []
    going = False
    for number, meant in rows:
        if meant:
            found[-1:] = [(found[-1][0], number)] if going else [*found[-1:], (number, number)]
        going = meant
    return tuple(found)
