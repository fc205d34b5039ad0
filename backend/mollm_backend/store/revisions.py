"""Whether anything was written since: counters that each write raises in its own transaction.

A write that may change what a project lacks raises the counter of what it changes. Two equal readings say that no such
write has ended between them, so that what was decided at the first still holds. A counter may be raised for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import sqlalchemy as sa

from mollm_backend.store import Store
from mollm_backend.store.schema import revisions as table

_RAISE = sa.text(
    "INSERT INTO revisions (subject, number) VALUES (:subject, 1) "
    "ON CONFLICT (subject) DO UPDATE SET number = revisions.number + 1 RETURNING number"
)


def of_work(project_id: int) -> str:
    """The counter of a project's tasks, versions and batches."""
    return f"work {project_id}"


def of_labels(project_id: int) -> str:
    """The counter of the annotations that are there, on tasks that are there."""
    return f"labels {project_id}"


def of_answers(fingerprint: str) -> str:
    """The counter of an annotator's answers, absences and costs: projects may share an annotator."""
    return f"answers {fingerprint}"


def next_number(connection: sa.Connection, subject: str) -> int:
    """Raise one counter, which then stays locked until the end of the transaction, and say what it is now."""
    return int(connection.execute(_RAISE, {"subject": subject}).scalar_one())


def note(connection: sa.Connection, *subjects: str) -> None:
    """Raise counters in the transaction that changes something; last in it, since others wait for its end."""
    for subject in sorted(subjects):  # in one order, so that no two transactions wait for each other
        connection.execute(_RAISE, {"subject": subject})


def read(store: Store, *subjects: str) -> Mapping[str, int]:
    """The counters as they stand; a subject of which nothing was ever written is left out."""
    query = sa.select(table.c.subject, table.c.number).where(table.c.subject.in_(subjects))
    with store.read() as connection:
        return {row.subject: row.number for row in connection.execute(query)}


def of_project(store: Store, project_id: int, panel: Iterable[str]) -> Mapping[str, int]:
    """All counters that tell of a project, by its panel's fingerprints. What stands in its own row has none."""
    return read(store, of_work(project_id), of_labels(project_id), *map(of_answers, panel))
