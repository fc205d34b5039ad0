"""Versions and their predictions. A version is immutable; publishing moves one pointer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sqlalchemy as sa

from mollm.errors import InputError
from mollm.records import FloatArray
from mollm_backend.store import Store, among, in_chunks, notes, now, revisions
from mollm_backend.store.changes import READABLE
from mollm_backend.store.labels import closed
from mollm_backend.store.projects import Project
from mollm_backend.store.schema import batch_entries, predictions, projects, tasks, versions

# Facts that do not grow with the labels. `BRIEF`: what a list of versions shows. `DETAIL`: what stands of the published
# version alone.
BRIEF = ("scores", "accuracy", "gate", "pool", "notes", "guess", "discrepancy")
DETAIL = ("people", "suspects", "measured")
# By the round: a clock that was ahead once must not make its version the newest for ever.
_NEWEST_FIRST = (versions.c.round.desc(), versions.c.created_at.desc())


@dataclass(frozen=True)
class Version:
    """`status`: candidate (it passed the gate, and is not published yet), published, refused (by the gate) or retired.

    `changes`: the number of the project's last change that its predictions take in (see `store.changes`).
    `unreadable`: why its files can predict nothing new, in words; empty where that is not known of them.
    """

    id: str
    round: int
    status: str
    human_labels: int
    facts: dict[str, Any] = field(default_factory=dict)
    created_at: str = ""
    changes: int = 0
    unreadable: str = ""

    @property
    def accuracy(self) -> dict[str, Any]:
        """By the kind of tasks it was measured on (`labelled`: chosen for being hard), `value`, `n`, `low` and `high`.

        A version of an earlier release has no interval (`low` and `high` are None). Empty without human labels.
        """
        scores = self.facts.get("scores", {})
        if "accuracy" not in scores:
            return {}
        old = {"value": scores["accuracy"], "n": self.human_labels, "low": None, "high": None}
        return {"labelled": old} | dict(self.facts.get("accuracy", {}))


def facts_of(facts: Mapping[str, Any], decision: str) -> Mapping[str, Any]:
    """What a version's `facts` say of one decision; nothing where it did not know that one."""
    if "decisions" in facts:
        found: Mapping[str, Any] = facts["decisions"].get(decision, {})
        return found
    return {} if decision else facts


@dataclass(frozen=True)
class StoredPrediction:
    """What a version says of a task in one decision; `text_key` tells whether the text is still the same.

    `probs` (C,) are calibrated.
    """

    task_id: int
    text_key: str
    label: str
    confidence: float
    probs: FloatArray
    classifier_probs: FloatArray | None = None
    negatives: tuple[str, ...] = ()
    decision: str = ""


def save(store: Store, project_id: int, version: Version, rows: Iterable[StoredPrediction]) -> None:
    """Write a version with all its predictions; a version that is there is replaced whole (same content, same name)."""
    here = (versions.c.project_id == project_id, versions.c.id == version.id)
    with store.write() as connection:
        connection.execute(
            predictions.delete().where(predictions.c.project_id == project_id, predictions.c.version == version.id)
        )
        for chunk in in_chunks(rows):
            connection.execute(predictions.insert(), [_prediction_values(project_id, version.id, row) for row in chunk])
        connection.execute(versions.delete().where(*here))
        connection.execute(
            versions.insert().values(
                project_id=project_id, id=version.id, round=version.round, status=version.status,
                human_labels=version.human_labels, facts=version.facts, created_at=version.created_at or now(),
                changes=version.changes, unreadable=version.unreadable,
            )
        )  # fmt: skip
        notes.put(connection, project_id, noted(version))
        revisions.note(connection, revisions.of_work(project_id))
    store.renew_statistics(predictions)


def noted(version: Version) -> dict[str, dict[str, Any]]:
    """What the pages show of a version, as notes by name: `version ID` in a few numbers, `detail ID` what a page shows
    of the published version alone. The facts themselves hold a row for each human label."""
    few = {name: version.facts[name] for name in BRIEF if name in version.facts}
    more = {name: version.facts[name] for name in DETAIL if name in version.facts}
    each = version.facts.get("decisions", {})
    if each:
        more["decisions"] = {key: {name: row[name] for name in DETAIL if name in row} for key, row in each.items()}
    return {f"version {version.id}": few, f"detail {version.id}": more}


def brief(store: Store, project_id: int, limit: int | None = None) -> list[Version]:
    """The newest versions, newest first, with those of their facts alone that `BRIEF` names."""
    query = sa.select(*_head()).where(versions.c.project_id == project_id).limit(limit)
    with store.read() as connection:
        rows = connection.execute(query.order_by(*_NEWEST_FIRST)).all()
    return _brief(store, project_id, rows)


def brief_of(store: Store, project_id: int, version: str | None) -> Version | None:
    """A version by its name as `brief` gives it; None where there is none of that name."""
    here = (versions.c.project_id == project_id, versions.c.id == version)
    with store.read() as connection:
        rows = connection.execute(sa.select(*_head()).where(*here)).all()
    return next(iter(_brief(store, project_id, rows)), None)


def _head() -> list[sa.ColumnElement[Any]]:
    """The columns that stand before the facts: SQLite reads through all of these to come to a later one."""
    return [versions.c[name] for name in ("id", "round", "created_at", "status", "human_labels")]


def _brief(store: Store, project_id: int, rows: Sequence[sa.Row[Any]]) -> list[Version]:
    known = notes.read(store, project_id, [f"version {row.id}" for row in rows])
    return [
        # A version of an earlier release has no note: its facts are read.
        Version(**row._mapping, facts=known[f"version {row.id}"].body)
        if f"version {row.id}" in known
        else (find(store, project_id, row.id) or Version(**row._mapping))
        for row in rows
    ]


def detail(store: Store, project_id: int, version: str) -> dict[str, Any]:
    """Those facts of a version that `DETAIL` names, with those of its decisions; empty where there is no version."""
    name = f"detail {version}"
    if known := notes.read(store, project_id, [name]):
        return known[name].body
    found = find(store, project_id, version)  # of an earlier release
    return {} if found is None else noted(found)[name]


def number(store: Store, project_id: int) -> int:
    """How many versions there are."""
    query = sa.select(sa.func.count()).select_from(versions).where(versions.c.project_id == project_id)
    with store.read() as connection:
        return int(connection.execute(query).scalar_one())


def extend(
    store: Store, project_id: int, version: str, rows: Sequence[StoredPrediction], changes: int | None = None
) -> None:
    """Add a version's predictions of new texts, or replace those of the same tasks: it takes in all `changes` now
    (None: as many as before)."""
    here = (predictions.c.project_id == project_id, predictions.c.version == version)
    with store.write() as connection:
        for decision in {row.decision for row in rows}:
            for ids in in_chunks(row.task_id for row in rows if row.decision == decision):
                these = (predictions.c.decision == decision, predictions.c.task_id.in_(ids))
                connection.execute(predictions.delete().where(*here, *these))
        for chunk in in_chunks(rows):
            connection.execute(predictions.insert(), [_prediction_values(project_id, version, row) for row in chunk])
        _change(connection, project_id, version, **({} if changes is None else {"changes": changes}))


def mark_unreadable(store: Store, project_id: int, version: str, why: str) -> None:
    """Note that a version's files can predict nothing new, and why."""
    with store.write() as connection:
        _change(connection, project_id, version, unreadable=why)


def _change(connection: sa.Connection, project_id: int, version: str, **values: Any) -> None:
    here = (versions.c.project_id == project_id, versions.c.id == version)
    if values:
        connection.execute(versions.update().where(*here).values(**values))
    revisions.note(connection, revisions.of_work(project_id))


def _prediction_values(project_id: int, version: str, row: StoredPrediction) -> dict[str, Any]:
    classifier = None if row.classifier_probs is None else np.asarray(row.classifier_probs, dtype="<f4").tobytes()
    return {
        "project_id": project_id, "version": version, "task_id": row.task_id, "text_key": row.text_key,
        "label": row.label, "confidence": row.confidence, "probs": np.asarray(row.probs, dtype="<f4").tobytes(),
        "classifier_probs": classifier, "negatives": list(row.negatives), "decision": row.decision,
    }  # fmt: skip


def publish(
    store: Store, project_id: int, version: str, batch_version: str | None = None, *, pinned_at: str = ""
) -> bool:
    """Move the project's pointers to a version and its batch, unless the project is pinned; returns whether it did.

    A pin "until the next version" lets a version through, and ends, if it is the one that the caller found at its start
    (`pinned_at`): a training that was running when the project was pinned does not publish over the pin. Pins are read
    in the transaction that publishes.
    """
    with store.write() as connection:
        since, until_next = pin_of(connection, project_id)
        if since and not (until_next and since == pinned_at):
            return False
        move(connection, project_id, version, batch_version)
    return True


def pin_of(connection: sa.Connection, project_id: int) -> tuple[str, bool]:
    """`pinned_at` and `pinned_until_next`; the project's row is locked until the transaction ends (SQLite: all is)."""
    columns = projects.c.pinned_at, projects.c.pinned_until_next
    row = connection.execute(sa.select(*columns).where(projects.c.id == project_id).with_for_update()).one()
    return row.pinned_at, row.pinned_until_next


def move(
    connection: sa.Connection, project_id: int, version: str, batch_version: str | None = None,
    *, pinned_at: str = "", pinned_until_next: bool = False,
) -> None:  # fmt: skip
    """Move the pointers and set the pin; the version before is retired. The new one's files are tried (again)."""
    here = versions.c.project_id == project_id
    connection.execute(versions.update().where(here, versions.c.status == "published").values(status="retired"))
    pointers = {"published_version": version, "pinned_at": pinned_at, "pinned_until_next": pinned_until_next}
    if batch_version is not None:
        pointers["batch_version"] = batch_version
    connection.execute(projects.update().where(projects.c.id == project_id).values(**pointers))
    _change(connection, project_id, version, status="published", unreadable="")


def every(store: Store, project_id: int, limit: int | None = None) -> list[Version]:
    """The versions of a project, newest first; at most `limit`."""
    query = sa.select(versions).where(versions.c.project_id == project_id).limit(limit)
    with store.read() as connection:
        rows = connection.execute(query.order_by(*_NEWEST_FIRST)).all()
    return [_version(row) for row in rows]


def newer_tasks(store: Store, project_id: int, version_id: str, limit: int) -> list[int]:
    """The newest tasks, at most `limit`, of those that came after all that a version has predicted."""
    here = (predictions.c.project_id == project_id, predictions.c.version == version_id)
    last = sa.select(sa.func.max(predictions.c.task_id)).where(*here)
    newer = (tasks.c.project_id == project_id, READABLE)
    with store.read() as connection:
        after = connection.execute(last).scalar() or 0
        query = sa.select(tasks.c.task_id).where(*newer, tasks.c.task_id > after)
        return list(connection.execute(query.order_by(tasks.c.task_id.desc()).limit(limit)).scalars())


def newest(store: Store, project_id: int) -> Version | None:
    """The version that was trained last, published or not."""
    return next(iter(every(store, project_id, 1)), None)


def newest_at(store: Store, project_id: int) -> str:
    """When the last version was made; "" where there is none."""
    query = sa.select(versions.c.created_at).where(versions.c.project_id == project_id)
    with store.read() as connection:
        return connection.execute(query.order_by(*_NEWEST_FIRST).limit(1)).scalar() or ""


def find(store: Store, project_id: int, version: str | None) -> Version | None:
    """A version by its name; None where there is none of that name."""
    query = sa.select(versions).where(versions.c.project_id == project_id, versions.c.id == version)
    with store.read() as connection:
        row = connection.execute(query).first()
    return None if row is None else _version(row)


def require(store: Store, project_id: int, version: str) -> None:
    """Raise InputError where the project has no such version."""
    if find(store, project_id, version) is None:
        raise InputError(f"Project {project_id} has no version {version!r}: see `mollm versions {project_id}`.")


def standing(store: Store, project: Project) -> tuple[int, str]:
    """`changes` and `unreadable` of the published version, without its facts, which grow with the labels."""
    here = (versions.c.project_id == project.id, versions.c.id == project.published_version)
    with store.read() as connection:
        row = connection.execute(sa.select(versions.c.changes, versions.c.unreadable).where(*here)).first()
    return (0, "") if row is None else (row.changes, row.unreadable)


def _version(row: sa.Row[Any]) -> Version:
    return Version(**{name: getattr(row, name) for name in Version.__dataclass_fields__})


def of_tasks(
    store: Store, project_id: int, version: str, task_ids: Sequence[int] | None = None
) -> dict[int, dict[str, StoredPrediction]]:
    """What a version says of the named tasks (None: of all), by task id and then by the decision's key."""
    here = sa.and_(predictions.c.project_id == project_id, predictions.c.version == version)
    found: dict[int, dict[str, StoredPrediction]] = {}
    with store.read() as connection:
        for wanted in among(predictions.c.task_id, task_ids):
            for row in connection.execute(sa.select(predictions).where(here, wanted)):
                found.setdefault(row.task_id, {})[row.decision] = _prediction(row)
    return found


def predicted(
    store: Store, project_id: int, version: str, task_ids: Sequence[int] | None = None, decision: str = ""
) -> dict[int, StoredPrediction]:
    """What a version says of the named tasks (None: of all) in one decision, by task id."""
    rows = of_tasks(store, project_id, version, task_ids)
    return {task_id: answers[decision] for task_id, answers in rows.items() if decision in answers}


def least_certain(store: Store, project_id: int, version: str, batch_version: str, limit: int) -> list[int]:
    """Up to `limit` tasks that nobody has closed and that are not in the batch, by their least sure decision."""
    here = (predictions.c.project_id == project_id, predictions.c.version == version)
    task = sa.and_(tasks.c.project_id == predictions.c.project_id, tasks.c.task_id == predictions.c.task_id)
    batch = (batch_entries.c.project_id == predictions.c.project_id, batch_entries.c.batch_version == batch_version)
    taken = sa.exists().where(*batch, batch_entries.c.task_id == predictions.c.task_id)
    query = sa.select(predictions.c.task_id).join(tasks, task).group_by(predictions.c.task_id)
    query = query.where(*here, tasks.c.deleted_at.is_(None), ~taken, ~closed(predictions))
    with store.read() as connection:
        order = (sa.func.min(predictions.c.confidence), predictions.c.task_id)
        return list(connection.execute(query.order_by(*order).limit(limit)).scalars())


def _prediction(row: sa.Row[Any]) -> StoredPrediction:
    classifier = (
        None if row.classifier_probs is None else np.frombuffer(row.classifier_probs, dtype="<f4").astype(float)
    )
    probs = np.frombuffer(row.probs, dtype="<f4").astype(float)
    return StoredPrediction(
        row.task_id, row.text_key, row.label, row.confidence, probs, classifier, tuple(row.negatives), row.decision
    )
