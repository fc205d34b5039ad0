"""Tasks in the store: each task's text, its content key, and whether it can be labelled at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import InitVar, dataclass, field
from typing import Any

import sqlalchemy as sa

from mollm.records import Item, digest
from mollm_backend.store import BLOCK, CHUNK, Store, among, changes, in_chunks, now, put, revisions
from mollm_backend.store.schema import tasks


@dataclass(frozen=True, slots=True)
class Task:
    """`text` is None where the task cannot be read; `problem` then says why, in words for a person.

    `updated_at`: Label Studio's own stamp, as of the last pass that took in the task's annotations too. `text_key`
    addresses the text in the signal cache ("" without a text); `stored_key` saves hashing a text that is stored.
    """

    task_id: int
    data_hash: str
    text: str | None
    problem: str = ""
    updated_at: str = ""
    stored_key: InitVar[str] = ""
    text_key: str = field(init=False)

    def __post_init__(self, stored_key: str) -> None:
        key = stored_key or ("" if self.text is None else digest(self.text))
        object.__setattr__(self, "text_key", key)

    @property
    def item(self) -> Item:
        """The task as the core knows it: its id is the task's."""
        return Item(str(self.task_id), self.text)


def from_row(row: sa.Row[Any]) -> Task:
    """A row of the table as a record."""
    return Task(row.task_id, row.data_hash, row.text, row.problem, row.updated_at, row.text_key)


def upsert(store: Store, project_id: int, rows: Sequence[Task]) -> None:
    """Insert or replace tasks; a task that had been deleted comes back, and its labels with it."""
    for block in in_chunks(rows, BLOCK):
        with store.write() as connection:
            subjects = {revisions.of_work(project_id)}
            for chunk in in_chunks(block):
                here = (tasks.c.project_id == project_id, tasks.c.task_id.in_([row.task_id for row in chunk]))
                number = changes.next_number(connection, project_id)
                # Whether they can be read is looked at below: as a condition, it would lead PostgreSQL to the index of
                # all readable tasks, and a bulk write to quadratic time.
                known = sa.select(
                    tasks.c.task_id, tasks.c.text_key, tasks.c.changed, tasks.c.problem, tasks.c.deleted_at
                ).where(*here)
                before = dict[tuple[int, str], int]()
                for row in connection.execute(known):
                    if row.deleted_at is not None:
                        subjects.add(revisions.of_labels(project_id))
                    elif not row.problem:
                        before[row.task_id, row.text_key] = row.changed
                put(connection, tasks, [
                    {
                        "project_id": project_id, "task_id": row.task_id, "data_hash": row.data_hash,
                        "text": row.text, "text_key": row.text_key, "problem": row.problem,
                        "updated_at": row.updated_at, "deleted_at": None,
                        "changed": before.get((row.task_id, row.text_key), number),
                    }
                    for row in chunk
                ])  # fmt: skip
            revisions.note(connection, *subjects)
        if len(block) >= CHUNK:
            store.renew_statistics(tasks)  # the next block is planned by it, too


def tombstone(store: Store, project_id: int, task_ids: Sequence[int]) -> None:
    """Mark tasks as deleted in Label Studio; their rows stay."""
    for chunk in in_chunks(task_ids):
        with store.write() as connection:
            connection.execute(
                tasks.update()
                .where(tasks.c.project_id == project_id, tasks.c.task_id.in_(chunk), tasks.c.deleted_at.is_(None))
                .values(deleted_at=now())
            )
            revisions.note(connection, revisions.of_work(project_id), revisions.of_labels(project_id))


def every(store: Store, project_id: int) -> list[Task]:
    """All tasks that are there now, in the order of their ids."""
    query = sa.select(tasks).where(tasks.c.project_id == project_id, tasks.c.deleted_at.is_(None))
    with store.read() as connection:
        return [from_row(row) for row in connection.execute(query.order_by(tasks.c.task_id))]


def readable_ids(store: Store, project_id: int) -> list[int]:
    """Ids of the tasks that are there now and can be read, in their order; without their texts."""
    here = (tasks.c.project_id == project_id, tasks.c.deleted_at.is_(None), tasks.c.problem == "")
    with store.read() as connection:
        return list(connection.execute(sa.select(tasks.c.task_id).where(*here).order_by(tasks.c.task_id)).scalars())


def marks(store: Store, project_id: int, task_ids: Sequence[int] | None = None) -> dict[int, tuple[str, str]]:
    """Of the named tasks (None: of all) the hash of the data and Label Studio's stamp: what reconciliation compares."""
    query = sa.select(tasks.c.task_id, tasks.c.data_hash, tasks.c.updated_at)
    query = query.where(tasks.c.project_id == project_id, tasks.c.deleted_at.is_(None))
    with store.read() as connection:
        rows = (row for wanted in among(tasks.c.task_id, task_ids) for row in connection.execute(query.where(wanted)))
        return {task_id: (data_hash, updated_at) for task_id, data_hash, updated_at in rows}


def last_stamp(store: Store, project_id: int) -> str:
    """The newest of Label Studio's stamps; "" where there is none, or where some task was not taken in whole."""
    query = sa.select(sa.func.min(tasks.c.updated_at), sa.func.max(tasks.c.updated_at))
    with store.read() as connection:
        row = connection.execute(query.where(tasks.c.project_id == project_id, tasks.c.deleted_at.is_(None))).one()
    return str(row[1]) if row[0] else ""


def stamp(store: Store, project_id: int, stamps: dict[int, str]) -> None:
    """Note, task by task, up to which of Label Studio's stamps all is taken in."""
    rows = [{"p": project_id, "t": task_id, "u": updated_at} for task_id, updated_at in stamps.items()]
    here = sa.and_(tasks.c.project_id == sa.bindparam("p"), tasks.c.task_id == sa.bindparam("t"))
    for chunk in in_chunks(rows):
        with store.write() as connection:
            connection.execute(tasks.update().where(here).values(updated_at=sa.bindparam("u")), chunk)


def some(store: Store, project_id: int, task_ids: Sequence[int]) -> dict[int, Task]:
    """The named tasks that are there now, by id."""
    query = sa.select(tasks).where(tasks.c.project_id == project_id, tasks.c.deleted_at.is_(None))
    with store.read() as connection:
        rows = (row for wanted in among(tasks.c.task_id, task_ids) for row in connection.execute(query.where(wanted)))
        return {row.task_id: from_row(row) for row in rows}


def newest_id(store: Store, project_id: int) -> int:
    """The highest id of a task; 0 where there is none."""
    query = sa.select(sa.func.max(tasks.c.task_id)).where(tasks.c.project_id == project_id)
    with store.read() as connection:
        return int(connection.execute(query).scalar() or 0)


def mean_length(store: Store, project_id: int) -> float | None:
    """The characters of a readable task's text, on average; None where there is none."""
    query = sa.select(sa.func.avg(sa.func.length(tasks.c.text)))
    here = (tasks.c.project_id == project_id, tasks.c.deleted_at.is_(None), tasks.c.problem == "")
    with store.read() as connection:
        found = connection.execute(query.where(*here)).scalar()
    return None if found is None else float(found)


def count(store: Store, project_id: int, *, after: int = -1) -> tuple[int, int]:
    """How many tasks there are after the task `after`, and how many of them cannot be read."""
    query = sa.select(sa.func.count(), sa.func.count().filter(tasks.c.problem != ""))
    here = (tasks.c.project_id == project_id, tasks.c.task_id > after, tasks.c.deleted_at.is_(None))
    with store.read() as connection:
        row = connection.execute(query.where(*here)).one()
    return int(row[0]), int(row[1])
