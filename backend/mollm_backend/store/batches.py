"""Acquisition batches: which tasks people see next, in which order, and what of it Label Studio holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import sqlalchemy as sa

from mollm_backend.store import CHUNK, Store, in_chunks, now, revisions
from mollm_backend.store.labels import closed
from mollm_backend.store.schema import batch_entries, tasks

BLIND = "shown without a pre-annotation"  # the reason that people read of every such entry, whatever it is for


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """One place of an acquisition batch with the pre-annotation that is shown there.

    `label` is what is stored where there is one decision; where there are several, it says in words what is shown.
    """

    task_id: int
    rank: int
    version: str
    label: str
    confidence: float
    reason: str
    gain: float = 0.0
    published_at: str | None = None

    @property
    def blind(self) -> bool:
        """Whether the entry itself says that nothing is shown."""
        return not self.label

    def masked(self) -> StoredEntry:
        """The entry as one that shows nothing: all such look the same to people."""
        return replace(self, label="", confidence=0.0, reason=BLIND, gain=0.0)


def save(store: Store, project_id: int, batch_version: str, rows: Sequence[StoredEntry]) -> None:
    """Add entries to a batch; entries that it already has stay as they are (a batch is refilled, never rewritten)."""
    here = (batch_entries.c.project_id == project_id, batch_entries.c.batch_version == batch_version)
    with store.write() as connection:
        known = set(connection.execute(sa.select(batch_entries.c.task_id).where(*here)).scalars())
        fresh = [row for row in rows if row.task_id not in known]
        if fresh:
            names = StoredEntry.__slots__
            connection.execute(
                batch_entries.insert(),
                [
                    {"project_id": project_id, "batch_version": batch_version}
                    | {name: getattr(row, name) for name in names}
                    for row in fresh
                ],
            )
            revisions.note(connection, revisions.of_work(project_id))


def entries(store: Store, project_id: int, batch_version: str) -> list[StoredEntry]:
    """A batch's entries in the order in which people see them."""
    here = (batch_entries.c.project_id == project_id, batch_entries.c.batch_version == batch_version)
    with store.read() as connection:
        rows = connection.execute(sa.select(batch_entries).where(*here).order_by(batch_entries.c.rank)).all()
    return [StoredEntry(**{name: getattr(row, name) for name in StoredEntry.__slots__}) for row in rows]


def open_tasks(store: Store, project_id: int, batch_version: str) -> set[int]:
    """The tasks of a batch that are there and that nobody has labelled or skipped."""
    here = (batch_entries.c.project_id == project_id, batch_entries.c.batch_version == batch_version)
    same = sa.and_(tasks.c.project_id == batch_entries.c.project_id, tasks.c.task_id == batch_entries.c.task_id)
    query = sa.select(batch_entries.c.task_id).join(tasks, same)
    with store.read() as connection:
        return set(connection.execute(query.where(*here, tasks.c.deleted_at.is_(None), ~closed(tasks))).scalars())


def waiting(store: Store, project_id: int, batch_version: str) -> list[StoredEntry]:
    """The entries of a batch that people still see, in order: the first has place 1."""
    still_open = open_tasks(store, project_id, batch_version)
    return [row for row in entries(store, project_id, batch_version) if row.task_id in still_open]


def ranks(store: Store, project_id: int, batch_version: str, task_ids: Sequence[int]) -> dict[int, int]:
    """The places of the named tasks in a batch; a task that is not in it is left out."""
    here = (batch_entries.c.project_id == project_id, batch_entries.c.batch_version == batch_version)
    query = sa.select(batch_entries.c.task_id, batch_entries.c.rank).where(*here)
    with store.read() as connection:
        if len(task_ids) <= CHUNK:
            query = query.where(batch_entries.c.task_id.in_(list(task_ids)))
        return {row.task_id: row.rank for row in connection.execute(query)}


def next_name(store: Store, project_id: int, version: str) -> str:
    """A name for the next batch of a version."""
    mine = sa.and_(batch_entries.c.project_id == project_id, batch_entries.c.version == version)
    query = sa.select(sa.func.count(batch_entries.c.batch_version.distinct())).where(mine)
    with store.read() as connection:
        return f"{version}+batch-{connection.execute(query).scalar_one() + 1}"


def newest(store: Store, project_id: int, version: str) -> str | None:
    """The name of the batch that was last published under a version; None where there was none."""
    here = (batch_entries.c.project_id == project_id, batch_entries.c.version == version)
    query = sa.select(batch_entries.c.batch_version).where(*here).order_by(batch_entries.c.published_at.desc()).limit(1)
    with store.read() as connection:
        return connection.execute(query).scalar()


def published(store: Store, project_id: int) -> dict[str, str]:
    """Batches that Label Studio holds, with the time of their first publishing, oldest first."""
    first = sa.func.min(batch_entries.c.published_at)
    query = sa.select(batch_entries.c.batch_version, first.label("first")).where(
        batch_entries.c.project_id == project_id, batch_entries.c.published_at.is_not(None)
    )
    with store.read() as connection:
        rows = connection.execute(query.group_by(batch_entries.c.batch_version).order_by(first)).all()
    return {row.batch_version: row.first for row in rows}


def mark_unpublished(store: Store, project_id: int, batch_version: str) -> None:
    """Note that Label Studio no longer holds a batch, so that publishing imports it again."""
    here = (batch_entries.c.project_id == project_id, batch_entries.c.batch_version == batch_version)
    with store.write() as connection:
        connection.execute(batch_entries.update().where(*here).values(published_at=None))
        revisions.note(connection, revisions.of_work(project_id))


def mark_published(store: Store, project_id: int, batch_version: str, task_ids: Sequence[int]) -> None:
    """Note that Label Studio holds these entries' predictions."""
    for chunk in in_chunks(task_ids):
        with store.write() as connection:
            connection.execute(
                batch_entries.update()
                .where(batch_entries.c.project_id == project_id, batch_entries.c.batch_version == batch_version,
                       batch_entries.c.task_id.in_(chunk))
                .values(published_at=now())
            )  # fmt: skip
            revisions.note(connection, revisions.of_work(project_id))
