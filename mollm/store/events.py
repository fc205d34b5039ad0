"""What happened, one line each: the terminal and the status page read it."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from mollm.store import Store, now
from mollm.store.schema import events


@dataclass(frozen=True, slots=True)
class Event:
    id: int
    at: str
    project_id: int | None
    kind: str
    line: str


def add(store: Store, kind: str, line: str, project_id: int | None = None) -> None:
    """Write one line; `kind` is info, done or problem."""
    with store.write() as connection:
        connection.execute(events.insert().values(at=now(), project_id=project_id, kind=kind, line=line[:2000]))


def newest(store: Store, limit: int = 50, *, after: int = 0, project_id: int | None = None) -> list[Event]:
    """The newest lines, newest first; `after` leaves out what was read before."""
    query = sa.select(events).where(events.c.id > after).order_by(events.c.id.desc()).limit(limit)
    if project_id is not None:
        query = query.where(events.c.project_id == project_id)
    with store.read() as connection:
        return [Event(*row) for row in connection.execute(query)]
