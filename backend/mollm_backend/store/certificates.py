"""Certificates: what each audit allowed, and the tasks that are accepted unseen by it. Decided once, never again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import sqlalchemy as sa

from mollm.records import Provenance
from mollm_backend.store import Store, in_chunks, now, revisions
from mollm_backend.store.schema import accepted, audits, certificates, human_annotations, projects, tasks

GRANTED, REFUSED, UNDONE, WITHDRAWN = "granted", "refused", "undone", "withdrawn"
WAITING, WRITTEN, KEPT = "waiting", "written", "kept"
MARK = "mollm-accepted+"  # how the model version begins of which Label Studio's accepted annotations are


@dataclass(frozen=True)
class Certificate:
    """The result of one look at an audit; `id` and `attempt` are given by `save`.

    `tasks` are certified, `audits` of them audited, `errors` of these wrong; `accepted` may be written. `by_class`: the
    same of each part. `status`: granted, refused or undone. `note`: what would have sufficed, for people.
    """

    audit_id: str
    look: int
    tasks: int
    audits: int
    errors: int
    accepted: int
    target: float
    confidence: float
    by_class: list[dict[str, Any]] = field(default_factory=list)
    status: str = REFUSED
    note: str = ""
    id: str = ""
    made_at: str = ""
    attempt: int = 1

    @property
    def version(self) -> str:
        """The model version of the annotations that are accepted by it."""
        return f"{MARK}{self.id}"


@dataclass(frozen=True, slots=True)
class Accepted:
    """A task that is accepted unseen; `labels` by the decision's key. `annotation_id` is None until it is written."""

    task_id: int
    labels: dict[str, str]
    text_key: str
    annotation_id: int | None = None
    written_at: str | None = None
    state: str = WAITING


def save(
    store: Store, project_id: int, certificate: Certificate, rows: Sequence[Accepted], *, last: bool
) -> Certificate:
    """Write what a look found, with the tasks that it accepts, and end the audit if it was the `last` look.

    All or nothing. A look that was decided already is returned as it was: nothing is decided twice.
    """
    with store.write() as connection:
        connection.execute(sa.select(projects.c.id).where(projects.c.id == project_id).with_for_update())
        mine = certificates.c.project_id == project_id
        same = (certificates.c.audit_id == certificate.audit_id, certificates.c.look == certificate.look)
        before = connection.execute(sa.select(certificates).where(mine, *same)).first()
        if before is not None:
            return _certificate(before)
        number = connection.execute(sa.select(sa.func.count()).select_from(certificates).where(mine)).scalar_one()
        earlier = sa.select(sa.func.count(certificates.c.audit_id.distinct()))
        earlier = earlier.where(mine, certificates.c.audit_id != certificate.audit_id)
        attempt = 1 + connection.execute(earlier).scalar_one()
        made = replace(certificate, id=f"certificate-{number + 1}", made_at=now(), attempt=attempt)
        connection.execute(certificates.insert().values(asdict(made) | {"project_id": project_id}))
        for chunk in in_chunks(rows):
            common = {"project_id": project_id, "certificate_id": made.id}
            connection.execute(accepted.insert(), [asdict(row) | common for row in chunk])
        if last:
            here = (audits.c.project_id == project_id, audits.c.id == made.audit_id)
            connection.execute(audits.update().where(*here).values(status="decided"))
        revisions.note(connection, revisions.of_work(project_id), revisions.of_labels(project_id))
    return made


def _certificate(row: sa.Row[Any]) -> Certificate:
    return Certificate(**{name: getattr(row, name) for name in Certificate.__dataclass_fields__})


def every(store: Store, project_id: int, *, status: str | None = None) -> list[Certificate]:
    """The certificates of a project, refused ones too, oldest first."""
    query = sa.select(certificates).where(certificates.c.project_id == project_id)
    if status is not None:
        query = query.where(certificates.c.status == status)
    with store.read() as connection:
        found = [_certificate(row) for row in connection.execute(query)]
    return sorted(found, key=lambda row: int(row.id.rpartition("-")[2]))


def newest(store: Store, project_id: int, *, status: str | None = None) -> Certificate | None:
    """The last one, of this status (None: of any); None where there is none."""
    return next(reversed(every(store, project_id, status=status)), None)


def of_audit(store: Store, project_id: int, audit_id: str) -> list[Certificate]:
    """What each look at an audit found, in their order."""
    return sorted((row for row in every(store, project_id) if row.audit_id == audit_id), key=lambda row: row.look)


def rows(
    store: Store, project_id: int, certificate_id: str, state: str, limit: int | None = None
) -> list[Accepted]:  # fmt: skip
    """The tasks of a certificate in one state, by id; at most `limit`."""
    here = (accepted.c.project_id == project_id, accepted.c.certificate_id == certificate_id)
    columns = (accepted.c[name] for name in Accepted.__dataclass_fields__)
    query = sa.select(*columns).where(*here, accepted.c.state == state).order_by(accepted.c.task_id).limit(limit)
    with store.read() as connection:
        return [Accepted(*row) for row in connection.execute(query)]


def states(store: Store, project_id: int, certificate_id: str) -> dict[str, int]:
    """How many tasks of a certificate are in each state."""
    here = (accepted.c.project_id == project_id, accepted.c.certificate_id == certificate_id)
    query = sa.select(accepted.c.state, sa.func.count()).where(*here).group_by(accepted.c.state)
    with store.read() as connection:
        return {state: int(count) for state, count in connection.execute(query)}


def unfinished(store: Store, project_id: int) -> list[Certificate]:
    """The certificates with annotations that must still be written, or taken back."""
    left = {GRANTED: WAITING, UNDONE: WRITTEN}
    with store.read() as connection:
        query = sa.select(accepted.c.certificate_id, accepted.c.state).where(accepted.c.project_id == project_id)
        pairs = {tuple(row) for row in connection.execute(query.distinct())}
    return [row for row in every(store, project_id) if (row.id, left.get(row.status, "")) in pairs]


def uncovered(store: Store, project_id: int, certificate_id: str) -> int:
    """How many of its accepted tasks have another text now, or are deleted."""
    same = (tasks.c.project_id == accepted.c.project_id, tasks.c.task_id == accepted.c.task_id)
    whole = sa.exists().where(*same, tasks.c.deleted_at.is_(None), tasks.c.text_key == accepted.c.text_key)
    here = (accepted.c.project_id == project_id, accepted.c.certificate_id == certificate_id)
    query = sa.select(sa.func.count()).select_from(accepted).where(*here, accepted.c.state != UNDONE, ~whole)
    with store.read() as connection:
        return int(connection.execute(query).scalar_one())


def withdraw(store: Store, project_id: int, certificate_id: str, note: str) -> None:
    """Note that it holds no longer: nothing more of it is written; what is written stays until somebody undoes it."""
    here = (certificates.c.project_id == project_id, certificates.c.id == certificate_id)
    with store.write() as connection:
        connection.execute(certificates.update().where(*here).values(status=WITHDRAWN, note=note))
        revisions.note(connection, revisions.of_work(project_id))


def undo(store: Store, project_id: int, certificate_id: str) -> None:
    """Note that it is taken back: what is not written yet never will be, what is written must be removed."""
    with store.write() as connection:
        here = (certificates.c.project_id == project_id, certificates.c.id == certificate_id)
        connection.execute(certificates.update().where(*here).values(status=UNDONE))
        _mark(connection, project_id, certificate_id, accepted.c.state == WAITING, state=UNDONE)
        revisions.note(connection, revisions.of_work(project_id))


def mark(store: Store, project_id: int, certificate_id: str, task_ids: Sequence[int], state: str) -> None:
    """Set the state of some tasks."""
    for chunk in in_chunks(task_ids):
        with store.write() as connection:
            _mark(connection, project_id, certificate_id, accepted.c.task_id.in_(chunk), state=state)
            revisions.note(connection, revisions.of_work(project_id))


def _mark(connection: sa.Connection, project_id: int, certificate_id: str, *which: Any, **values: Any) -> None:
    here = (accepted.c.project_id == project_id, accepted.c.certificate_id == certificate_id)
    connection.execute(accepted.update().where(*here, *which).values(**values))


def settle(store: Store, project_id: int) -> None:
    """Bring the states to what the annotations in the store say: written, touched by a person, or gone."""
    column = human_annotations.c
    there = (column.project_id == accepted.c.project_id, column.task_id == accepted.c.task_id,
             column.deleted_at.is_(None))  # fmt: skip
    version = sa.literal(MARK) + accepted.c.certificate_id
    ours = (*there, column.provenance == Provenance.CERTIFIED.value, column.shown_version == version)
    own = (*there, column.annotation_id == accepted.c.annotation_id)
    number = sa.select(sa.func.min(column.annotation_id)).where(*ours).scalar_subquery()
    state, unwritten = accepted.c.state, accepted.c.annotation_id.is_(None)
    steps: list[tuple[Sequence[sa.ColumnElement[bool]], dict[str, Any]]] = [
        ((state != WRITTEN, unwritten, sa.exists().where(*ours)),
         {"state": WRITTEN, "annotation_id": number, "written_at": now()}),
        ((state == WAITING, sa.exists().where(*there)), {"state": KEPT}),
        ((state == WRITTEN, ~sa.exists().where(*own)), {"state": UNDONE}),
        ((state == WRITTEN, ~sa.exists().where(*own, column.provenance == Provenance.CERTIFIED.value)),
         {"state": KEPT}),
    ]  # fmt: skip
    with store.write() as connection:
        changed = 0
        for which, values in steps:
            update = accepted.update().where(accepted.c.project_id == project_id, *which).values(**values)
            changed += connection.execute(update).rowcount
        if changed:
            revisions.note(connection, revisions.of_work(project_id))
