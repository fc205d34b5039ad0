"""Tasks of which a version says nothing yet: they came after it was trained, or their text was edited since."""

from __future__ import annotations

import sqlalchemy as sa

from mollm_backend.store import Store
from mollm_backend.store.projects import Project
from mollm_backend.store.schema import predictions, signals, tasks

_NONE: sa.ColumnElement[str] = sa.literal_column("''")


def count(store: Store, project: Project, version: str) -> int:
    """How many readable tasks some annotator has answered, but the version has no prediction of their present text."""
    known = sa.exists().where(
        predictions.c.project_id == project.id, predictions.c.version == version,
        predictions.c.task_id == tasks.c.task_id, predictions.c.text_key == tasks.c.text_key,
    )  # fmt: skip
    return _count(store, project, ~known)


def answered(store: Store, project: Project) -> int:
    """How many readable tasks some annotator of the panel has answered."""
    return _count(store, project, sa.true())


def _count(store: Store, project: Project, which: sa.ColumnElement[bool]) -> int:
    panel = [member.fingerprint for member in project.panel]
    said = sa.exists().where(signals.c.text_key == tasks.c.text_key, signals.c.fingerprint.in_(panel))
    # Written out, not bound: the database takes the index of readable tasks only where it sees the same condition.
    readable = (tasks.c.project_id == project.id, tasks.c.deleted_at.is_(None), tasks.c.problem == _NONE)
    with store.read() as connection:
        query = sa.select(sa.func.count()).select_from(tasks).where(*readable, which, said)
        return int(connection.execute(query).scalar_one())
