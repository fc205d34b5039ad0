"""What a list of all projects shows: each figure of all of them by one query."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from mollm_backend.store import Store
from mollm_backend.store.audits import CERTIFICATE, OPEN
from mollm_backend.store.labels import closed
from mollm_backend.store.schema import audit_tasks, audits, batch_entries, projects, tasks, versions


def batches_open(store: Store) -> dict[int, int]:
    """By project, how many tasks of the current batch wait for people; a project where none does is left out."""
    current = (projects.c.id == batch_entries.c.project_id, projects.c.batch_version == batch_entries.c.batch_version)
    same = (tasks.c.project_id == batch_entries.c.project_id, tasks.c.task_id == batch_entries.c.task_id)
    query = sa.select(projects.c.id, sa.func.count()).select_from(
        projects.join(batch_entries, sa.and_(*current)).join(tasks, sa.and_(*same))
    )
    return _counts(store, query.where(tasks.c.deleted_at.is_(None), ~closed(tasks)).group_by(projects.c.id))


def learned(store: Store) -> dict[int, int]:
    """By project with a published version, from how many human labels it was made."""
    published = sa.and_(versions.c.project_id == projects.c.id, versions.c.id == projects.c.published_version)
    return _counts(store, sa.select(projects.c.id, versions.c.human_labels).join(versions, published))


def audits_open(store: Store) -> dict[int, int]:
    """By project with an open audit that somebody asked for, how many of its tasks wait for people."""
    mine = (audit_tasks.c.project_id == audits.c.project_id, audit_tasks.c.audit_id == audits.c.id)
    query = sa.select(audits.c.project_id, sa.func.count().filter(~closed(audit_tasks)))
    here = (audits.c.purpose == CERTIFICATE, audits.c.status == OPEN)
    return _counts(store, query.join(audit_tasks, sa.and_(*mine)).where(*here).group_by(audits.c.project_id))


def _counts(store: Store, query: sa.Select[Any]) -> dict[int, int]:
    with store.read() as connection:
        return {row[0]: row[1] for row in connection.execute(query)}
