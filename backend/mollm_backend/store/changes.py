"""The order of changes: which tasks are new, edited or answered since a version last predicted.

Each change of a project has a number. A task keeps the number of its last change: its text came, was edited, or was
answered by an annotator. A version keeps the number up to which it has predicted. What it has still to predict is one
range of an index, whatever the number of tasks.
"""

from __future__ import annotations

import sqlalchemy as sa

from mollm_backend.store import Store, revisions
from mollm_backend.store.schema import tasks

# Written out, not bound: the database takes the index of readable tasks only where it sees the same condition.
READABLE = sa.and_(tasks.c.deleted_at.is_(None), tasks.c.problem == sa.literal_column("''"))


def next_number(connection: sa.Connection, project_id: int) -> int:
    """The number of a change that this transaction makes.

    Their counter stays locked until the end of the transaction (SQLite locks the whole store). So numbers become
    visible in their order: a reader that sees one number sees all smaller ones too.
    """
    return revisions.next_number(connection, f"changes {project_id}")


def newest(store: Store, project_id: int) -> int:
    """The number of the project's last change; 0 where there was none."""
    with store.read() as connection:
        return _newest(connection, project_id)


def _newest(connection: sa.Connection, project_id: int) -> int:
    query = sa.select(sa.func.max(tasks.c.changed)).where(tasks.c.project_id == project_id)
    return int(connection.execute(query).scalar() or 0)


def after(store: Store, project_id: int, number: int, limit: int) -> tuple[list[int], int]:
    """The readable tasks of the next changes after `number`, and the last number among these changes.

    At least `limit` tasks where there are so many; more only where one change touched more.
    """
    waiting = (tasks.c.project_id == project_id, tasks.c.changed > number)
    ordered = sa.select(tasks.c.changed).where(*waiting).order_by(tasks.c.changed)
    with store.read() as connection:
        last = connection.execute(ordered.offset(limit - 1).limit(1)).scalar() or _newest(connection, project_id)
        query = sa.select(tasks.c.task_id).where(*waiting, tasks.c.changed <= last, READABLE)
        return list(connection.execute(query.order_by(tasks.c.task_id)).scalars()), last
