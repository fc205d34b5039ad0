"""Audits: the tasks that people label blind, drawn from the open rest of one version.

Until its audit is decided or withdrawn, an answer is used for nothing else (`set_aside`, `usable`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import sqlalchemy as sa

from mollm.errors import InputError
from mollm.records import IntArray, digest
from mollm_backend.store import Store, in_chunks, labels, now, revisions
from mollm_backend.store.decisions import Decision
from mollm_backend.store.frozen import COLUMNS, Frozen, packed, text_codes, unpacked
from mollm_backend.store.labels import Annotation
from mollm_backend.store.schema import audit_tasks, audits, projects, tasks

OPEN, DECIDED, WITHDRAWN = "open", "decided", "withdrawn"
CERTIFICATE, STANDING = "certificate", "standing"


@dataclass(frozen=True, slots=True)
class Part:
    """How one part of an audit was drawn (see `mollm_backend.jobs.auditing`), and the error that its test may spend.

    `label` is the predicted class where there is a part for each, else empty. `wrong`: how many of the tasks that a
    whole audit leaves may be wrong (None: as many as its target says). `floor` and `stake` of a whole audit's bet: a
    release that bets otherwise decides the open audits as they were drawn.
    """

    kind: Literal["simple", "spread", "weighted"]
    labels: int
    region: int
    start: int
    tasks: int
    alpha: float
    label: str = ""
    wrong: int | None = None
    floor: float = 0.5  # what was bet before it was kept here
    stake: float = 0.95


@dataclass(frozen=True, slots=True)
class Audit:
    """One audit. `id` is given by `make`; `target` is None where the audit is for an estimate alone.

    `status`: open, decided or withdrawn. `note`: why it was withdrawn.
    """

    version: str
    purpose: str
    target: float | None
    confidence: float
    seed: int
    parts: tuple[Part, ...]
    label_config_digest: str
    looks: int = 1
    id: str = ""
    made_at: str = ""
    status: str = OPEN
    note: str = ""

    @property
    def whole(self) -> bool:
        """Whether it certifies all of its tasks or none, as soon as the answers suffice (`mollm.acceptance.bet`). Then
        it measures nothing: when it ends depends on what was answered."""
        return any(part.kind == "weighted" for part in self.parts)


@dataclass(frozen=True, slots=True)
class AuditTask:
    """One task of an audit: its `place` in the order of confidence within its part, and its `turn` among all.

    `probability`: with which it was drawn, in a whole audit as the first. `predicted`: the label when it was drawn, by
    the decision's key.
    """

    task_id: int
    part: int
    place: int
    turn: int
    probability: float
    predicted: dict[str, str]
    text_key: str


def asked_digest(decisions: Sequence[Decision]) -> str:
    """What an audit holds for: the decisions, the labels of each, and when it is asked."""
    parts = [part for row in decisions for part in (row.key, row.labels.key())]
    return digest(*parts, *(str(row.conditions) for row in decisions if row.conditions))


def make(store: Store, project_id: int, audit: Audit, frozen: Frozen, drawn: Sequence[AuditTask]) -> Audit:
    """Write a new audit with its tasks, whole or not at all; returns it with its id.

    Raises InputError where an audit for a certificate is open already.
    """
    with store.write() as connection:
        # The project's row stays locked until the end: two at once would both find no open audit.
        connection.execute(sa.select(projects.c.id).where(projects.c.id == project_id).with_for_update())
        mine = audits.c.project_id == project_id
        query = sa.select(audits.c.id).where(mine, audits.c.status == OPEN, audits.c.purpose == CERTIFICATE)
        if audit.purpose == CERTIFICATE and (before := connection.execute(query).scalar()):
            raise InputError(f"{before} is open: see `mollm audit {project_id}`, or end it with --cancel.")
        number = connection.execute(sa.select(sa.func.count()).select_from(audits).where(mine)).scalar_one()
        audit = replace(audit, id=f"audit-{number + 1}", made_at=audit.made_at or now())
        connection.execute(audits.insert().values(_values(audit) | {"project_id": project_id} | packed(frozen)))
        for chunk in in_chunks(drawn):
            rows = [{"project_id": project_id, "audit_id": audit.id} | asdict(row) for row in chunk]
            connection.execute(audit_tasks.insert(), rows)
        revisions.note(connection, revisions.of_work(project_id))
    return audit


def _values(audit: Audit) -> dict[str, Any]:
    values = {name: getattr(audit, name) for name in Audit.__dataclass_fields__}
    return values | {"parts": [asdict(part) for part in audit.parts]}


def frozen_of(store: Store, project_id: int, audit_id: str) -> Frozen:
    """The tasks that an audit was drawn from. Raises InputError for an unknown audit."""
    with store.read() as connection:
        columns = (audits.c[name] for name in COLUMNS)
        query = sa.select(*columns).where(audits.c.project_id == project_id, audits.c.id == audit_id)
        row = connection.execute(query).first()
    if row is None:
        raise InputError(f"Project {project_id} has no {audit_id!r}: see `mollm audit {project_id}`.")
    return unpacked(row._mapping)


def every(store: Store, project_id: int, *, purpose: str | None = None, status: str | None = None) -> list[Audit]:
    """The audits of a project, oldest first."""
    names = list(Audit.__dataclass_fields__)
    query = sa.select(*(audits.c[name] for name in names)).where(audits.c.project_id == project_id)
    if purpose is not None:
        query = query.where(audits.c.purpose == purpose)
    if status is not None:
        query = query.where(audits.c.status == status)
    with store.read() as connection:
        found = [_audit(dict(row._mapping)) for row in connection.execute(query)]
    return sorted(found, key=lambda audit: int(audit.id.rpartition("-")[2]))


def _audit(values: dict[str, Any]) -> Audit:
    return Audit(**(values | {"parts": tuple(Part(**part) for part in values["parts"])}))


def find(store: Store, project_id: int, audit_id: str) -> Audit | None:
    """An audit by its id; None where there is none."""
    return next((audit for audit in every(store, project_id) if audit.id == audit_id), None)


def newest(store: Store, project_id: int, *, status: str | None = None) -> Audit | None:
    """The last audit for a certificate or an estimate, of this status (None: of any); None where there is none."""
    return next(reversed(every(store, project_id, purpose=CERTIFICATE, status=status)), None)


def measuring(store: Store, project_id: int) -> Audit | None:
    """The last decided audit that tells how right the tasks were that it was drawn from; None where there is none."""
    ended = every(store, project_id, purpose=CERTIFICATE, status=DECIDED)
    return next((audit for audit in reversed(ended) if not audit.whole), None)


def tasks_of(store: Store, project_id: int, audit_id: str) -> list[AuditTask]:
    """An audit's tasks in the order in which people see them."""
    names = list(AuditTask.__dataclass_fields__)
    here = (audit_tasks.c.project_id == project_id, audit_tasks.c.audit_id == audit_id)
    query = sa.select(*(audit_tasks.c[name] for name in names)).where(*here).order_by(audit_tasks.c.turn)
    with store.read() as connection:
        return [AuditTask(*row) for row in connection.execute(query)]


def _of_open(*columns: sa.ColumnElement[Any], project_id: int) -> sa.Select[Any]:
    """Columns of the tasks of open audits."""
    same = sa.and_(audits.c.project_id == audit_tasks.c.project_id, audits.c.id == audit_tasks.c.audit_id)
    query = sa.select(*columns).select_from(audit_tasks.join(audits, same))
    return query.where(audits.c.project_id == project_id, audits.c.status == OPEN)


def set_aside(store: Store, project_id: int) -> set[int]:
    """The tasks of open audits: shown without a pre-annotation, and what is said of them is not used yet."""
    with store.read() as connection:
        return set(connection.execute(_of_open(audit_tasks.c.task_id, project_id=project_id)).scalars())


def usable(store: Store, project_id: int) -> list[Annotation]:
    """The annotations that are there now, without those of open audits: what may be learned from, or reported."""
    kept_apart = set_aside(store, project_id)
    return [row for row in labels.every(store, project_id) if row.task_id not in kept_apart]


def pending(store: Store, project_id: int, audit_id: str | None = None) -> list[int]:
    """The tasks of open audits (or of this one) that people must still see, oldest audit first, in their turn."""
    same = (tasks.c.project_id == audit_tasks.c.project_id, tasks.c.task_id == audit_tasks.c.task_id)
    there = sa.exists().where(*same, tasks.c.deleted_at.is_(None), tasks.c.text_key == audit_tasks.c.text_key)
    query = _of_open(audit_tasks.c.task_id, project_id=project_id).where(there, ~labels.closed(audit_tasks))
    if audit_id is not None:
        query = query.where(audits.c.id == audit_id)
    with store.read() as connection:
        rows = connection.execute(query.order_by(audits.c.made_at, audit_tasks.c.turn)).scalars()
        return list(dict.fromkeys(rows))


def decide(store: Store, project_id: int, audit_id: str, note: str = "") -> None:
    """End an open audit: from now on its answers are labels like any other."""
    end(store, project_id, audit_id, DECIDED, note)


def withdraw(store: Store, project_id: int, audit_id: str, note: str) -> None:
    """End an open audit without a decision; its answers are labels like any other."""
    end(store, project_id, audit_id, WITHDRAWN, note)


def end(store: Store, project_id: int, audit_id: str, status: str, note: str) -> None:
    """End an open audit as decided or withdrawn; one that is not open stays as it is."""
    here = (audits.c.project_id == project_id, audits.c.id == audit_id, audits.c.status == OPEN)
    with store.write() as connection:
        connection.execute(audits.update().where(*here).values(status=status, note=note))
        revisions.note(connection, revisions.of_labels(project_id), revisions.of_work(project_id))


def texts_now(store: Store, project_id: int) -> tuple[IntArray, IntArray]:
    """The ids of the tasks that are there, rising, and of each text key its first 8 bytes: what `Frozen` compares."""
    query = sa.select(tasks.c.task_id, tasks.c.text_key).order_by(tasks.c.task_id)
    with store.read() as connection:
        rows = connection.execute(query.where(tasks.c.project_id == project_id, tasks.c.deleted_at.is_(None))).all()
    return np.array([row.task_id for row in rows], dtype=np.int64), text_codes(row.text_key for row in rows)
