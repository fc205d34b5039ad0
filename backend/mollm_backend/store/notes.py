"""Notes: what a job found out and a page shows, each a small JSON under a name. A page reads them and computes nothing.

A row of its own, and no column of `versions` or `projects`: those rows are read for other reasons, all of them at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from mollm_backend.store import Store, in_chunks, now
from mollm_backend.store import put as put_rows
from mollm_backend.store.schema import notes as table

# The name of what `mollm_backend.jobs.standing` found out: how right a project is, and what it takes to finish it.
STANDING = "standing"
# What `mollm plan PROJECT` promised, and what had been spent until then (`mollm_backend.work.planning`).
PLAN = "plan"


@dataclass(frozen=True)
class Note:
    """What was noted, and when (UTC)."""

    at: str = ""
    body: dict[str, Any] = field(default_factory=dict)


def put(connection: sa.Connection, project_id: int, bodies: Mapping[str, Mapping[str, Any]]) -> None:
    """Write notes by name in a transaction that changes what they tell of, each in place of the one before."""
    rows = [{"project_id": project_id, "name": name, "at": now(), "body": dict(body)} for name, body in bodies.items()]
    for chunk in in_chunks(rows):
        put_rows(connection, table, chunk)


def write(store: Store, project_id: int, **bodies: Mapping[str, Any]) -> None:
    """Write notes by name."""
    with store.write() as connection:
        put(connection, project_id, bodies)


def of_all(store: Store, names: Sequence[str]) -> dict[tuple[int, str], Note]:
    """The notes of these names in all projects, by project and name."""
    query = sa.select(table.c.project_id, table.c.name, table.c.at, table.c.body)
    with store.read() as connection:
        rows = [row for chunk in in_chunks(names) for row in connection.execute(query.where(table.c.name.in_(chunk)))]
    return {(row.project_id, row.name): Note(row.at, row.body) for row in rows}


def read(store: Store, project_id: int, names: Sequence[str]) -> dict[str, Note]:
    """The notes of these names; one that was never written is left out."""
    query = sa.select(table.c.name, table.c.at, table.c.body).where(table.c.project_id == project_id)
    with store.read() as connection:
        rows = [row for chunk in in_chunks(names) for row in connection.execute(query.where(table.c.name.in_(chunk)))]
    return {row.name: Note(row.at, row.body) for row in rows}
