"""Pins: a project that is rolled back holds that version until somebody unpins it, or until the next version.

`versions.publish` reads the pin in the transaction that publishes, so that whoever publishes at the same time waits.
"""

from __future__ import annotations

import sqlalchemy as sa

from mollm_backend.store import Store, now, versions
from mollm_backend.store.schema import batch_entries, projects
from mollm_backend.store.schema import versions as table


def pin(store: Store, project_id: int, version: str, batch_version: str, *, until_next: bool = False) -> None:
    """Publish a version and its batch, whatever the project is pinned to, and pin the project to it.

    Label Studio may have lost the batch meanwhile: publishing asks there.
    """
    batch = (batch_entries.c.project_id == project_id, batch_entries.c.batch_version == batch_version)
    with store.write() as connection:
        versions.pin_of(connection, project_id)
        connection.execute(batch_entries.update().where(*batch).values(published_at=None))
        versions.move(connection, project_id, version, batch_version, pinned_at=now(), pinned_until_next=until_next)


def unpin(store: Store, project_id: int) -> str | None:
    """Unpin the project and publish the newest version that the pin held back; returns its name, None without one."""
    with store.write() as connection:
        if not versions.pin_of(connection, project_id)[0]:
            return None
        held, batch = _held(connection, project_id)
        if held is None or batch is None:
            here = projects.update().where(projects.c.id == project_id)
            connection.execute(here.values(pinned_at="", pinned_until_next=False))
            return None
        versions.move(connection, project_id, held, batch)
    return held


def _held(connection: sa.Connection, project_id: int) -> tuple[str | None, str | None]:
    """The newest version that passed the gate, with its batch, if it was never published.

    A candidate that is older than what was published is not one: a training that was killed left it behind.
    """
    passed = (table.c.project_id == project_id, table.c.status.in_(("candidate", "published", "retired")))
    query = sa.select(table.c.id, table.c.status).where(*passed)
    newest = connection.execute(query.order_by(table.c.round.desc(), table.c.created_at.desc()).limit(1)).first()
    if newest is None or newest.status != "candidate":
        return None, None
    mine = (batch_entries.c.project_id == project_id, batch_entries.c.version == newest.id)
    return newest.id, connection.execute(sa.select(batch_entries.c.batch_version).where(*mine).limit(1)).scalar()
