"""What happened, one line each: the terminal and the status page read it."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from mollm_backend.store import Store, now
from mollm_backend.store.schema import events

KEEP = 10_000  # lines of a project: some weeks of work, and a page that still reads them at once (chosen by hand)
ACTION = "action"  # the kind of a line that says who did what


@dataclass(frozen=True, slots=True)
class Event:
    id: int
    at: str
    project_id: int | None
    kind: str
    line: str


def add(store: Store, kind: str, line: str, project_id: int | None = None) -> None:
    """Write one line; `kind` is info, done, problem, or `ACTION`."""
    with store.write() as connection:
        connection.execute(events.insert().values(at=now(), project_id=project_id, kind=kind, line=line[:2000]))


def add_once(store: Store, kind: str, line: str, project_id: int) -> None:
    """Write one line, unless it stands among the project's newest of today."""
    known = newest(store, 200, project_id=project_id)
    if not any(event.line == line[:2000] and event.at[:10] == now()[:10] for event in known):
        add(store, kind, line, project_id)


def prune(store: Store, project_id: int, keep: int = KEEP) -> int:
    """Forget all but the newest `keep` lines of a project, and of those of no project. Returns how many went.

    Who did what is kept.
    """
    gone = 0
    for here in (events.c.project_id == project_id, events.c.project_id.is_(None)):
        query = sa.select(events.c.id).where(here).order_by(events.c.id.desc()).offset(keep).limit(1)
        with store.read() as connection:
            last = connection.execute(query).scalar()
        if last is not None:
            with store.write() as connection:
                gone += connection.execute(
                    events.delete().where(here, events.c.id <= last, events.c.kind != ACTION)
                ).rowcount
    return gone


def newest(store: Store, limit: int = 50, *, after: int = 0, project_id: int | None = None) -> list[Event]:
    """The newest lines, newest first; `after` leaves out what was read before."""
    query = sa.select(events).where(events.c.id > after).order_by(events.c.id.desc()).limit(limit)
    if project_id is not None:
        query = query.where(events.c.project_id == project_id)
    with store.read() as connection:
        return [Event(*row) for row in connection.execute(query)]
