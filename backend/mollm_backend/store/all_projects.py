"""What a list of all projects shows, and the metrics: each figure of all of them by one query."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from mollm_backend.store import Store
from mollm_backend.store.audits import CERTIFICATE, OPEN
from mollm_backend.store.labels import closed
from mollm_backend.store.schema import (
    answer_errors,
    audit_tasks,
    audits,
    batch_entries,
    certificates,
    ledger,
    projects,
    tasks,
    versions,
)
from mollm_backend.store.signals import Cost
from mollm_backend.store.versions import Version


def batches_open(store: Store) -> dict[int, int]:
    """By project, how many tasks of the current batch wait for people; a project where none does is left out."""
    current = (projects.c.id == batch_entries.c.project_id, projects.c.batch_version == batch_entries.c.batch_version)
    same = (tasks.c.project_id == batch_entries.c.project_id, tasks.c.task_id == batch_entries.c.task_id)
    query = sa.select(projects.c.id, sa.func.count()).select_from(
        projects.join(batch_entries, sa.and_(*current)).join(tasks, sa.and_(*same))
    )
    return _counts(store, query.where(tasks.c.deleted_at.is_(None), ~closed(tasks)).group_by(projects.c.id))


def published(store: Store) -> dict[int, Version]:
    """By project with a published version, that version without its facts."""
    same = sa.and_(versions.c.project_id == projects.c.id, versions.c.id == projects.c.published_version)
    columns = [versions.c[name] for name in ("id", "round", "status", "human_labels")]
    with store.read() as connection:
        rows = connection.execute(sa.select(projects.c.id, *columns).join(versions, same)).all()
    return {row[0]: Version(*row[1:]) for row in rows}


def certified(store: Store) -> dict[int, str]:
    """By project with a certificate or a refusal, the status of the newest."""
    columns = (certificates.c.project_id, certificates.c.status)
    order = (certificates.c.made_at, sa.func.length(certificates.c.id), certificates.c.id)  # certificate-9, then -10
    with store.read() as connection:
        return {row[0]: row[1] for row in connection.execute(sa.select(*columns).order_by(*order))}


def spent(store: Store) -> dict[tuple[int, str, str], Cost]:
    """By project, annotator and fingerprint, all that was ever spent."""
    key = (ledger.c.project_id, ledger.c.annotator, ledger.c.fingerprint)
    query = sa.select(*key, *(sa.func.sum(ledger.c[name]) for name in Cost.__dataclass_fields__)).group_by(*key)
    with store.read() as connection:
        return {(row[0], row[1], row[2]): Cost(*row[3:]) for row in connection.execute(query)}


def failed(store: Store) -> dict[tuple[str, str], int]:
    """By fingerprint and kind, on how many texts an annotator failed that were not answered since."""
    key = (answer_errors.c.fingerprint, answer_errors.c.kind)
    with store.read() as connection:
        rows = connection.execute(sa.select(*key, sa.func.count()).group_by(*key))
        return {(row[0], row[1]): row[2] for row in rows}


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
