"""Human annotations in the store: the truth that outranks all. Tombstoned, never deleted."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mollm.records import HumanLabel, Provenance, digest
from mollm.store import Store, now
from mollm.store.schema import human_annotations, tasks

_CHUNK = 500
# From the weakest evidence to the strongest; a later pass never lowers what was written at first sight.
_STRENGTH = [kind.value for kind in (
    Provenance.BULK_ACCEPTED, Provenance.ACCEPTED, Provenance.EDITED, Provenance.FROM_SCRATCH,
)]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Annotation:
    """An annotation as Label Studio holds it. `label` is None for a skip or an unusable result (`problem`: why)."""

    annotation_id: int
    task_id: int
    user_id: int
    label: str | None
    was_cancelled: bool
    provenance: Provenance
    parent_prediction: int | None = None
    shown_version: str | None = None
    shown_label: str | None = None
    created_at: str = ""
    updated_at: str = ""
    problem: str = ""


def upsert(store: Store, project_id: int, rows: Sequence[Annotation]) -> None:
    """Insert or replace annotations. What was shown, once known, is never lowered to unknown by a later pass."""
    for start in range(0, len(rows), _CHUNK):
        chunk = rows[start : start + _CHUNK]
        ids = [row.annotation_id for row in chunk]
        here = (human_annotations.c.project_id == project_id, human_annotations.c.annotation_id.in_(ids))
        with store.write() as connection:
            known = {row.annotation_id: row for row in connection.execute(sa.select(human_annotations).where(*here))}
            connection.execute(human_annotations.delete().where(*here))
            connection.execute(
                human_annotations.insert(),
                [_values(project_id, row, known.get(row.annotation_id)) for row in chunk],
            )


def _values(project_id: int, row: Annotation, known: sa.Row[Any] | None) -> dict[str, Any]:
    values = {name: getattr(row, name) for name in Annotation.__dataclass_fields__}
    values |= {"project_id": project_id, "provenance": row.provenance.value, "deleted_at": None}
    if known is not None and row.parent_prediction is None and known.provenance != Provenance.FROM_SCRATCH:
        # Label Studio nulls parent_prediction when a version is deleted: keep what was seen first.
        kept = {name: getattr(known, name) for name in ("parent_prediction", "shown_version", "shown_label")}
        edited = row.label != (known.label if known.shown_label is None else known.shown_label)
        kept["provenance"] = Provenance.EDITED.value if edited else known.provenance
        values |= kept
    if known is not None and known.label is not None:  # a skip says nothing of how a label came about
        values["provenance"] = max(values["provenance"], known.provenance, key=_STRENGTH.index)
    return values


def tombstone(store: Store, project_id: int, annotation_ids: Sequence[int]) -> None:
    for start in range(0, len(annotation_ids), _CHUNK):
        chunk = list(annotation_ids[start : start + _CHUNK])
        with store.write() as connection:
            connection.execute(
                human_annotations.update()
                .where(human_annotations.c.project_id == project_id, human_annotations.c.annotation_id.in_(chunk),
                       human_annotations.c.deleted_at.is_(None))
                .values(deleted_at=now())
            )  # fmt: skip


def _alive(project_id: int) -> sa.Select[Any]:
    return (
        sa.select(human_annotations)
        .join(
            tasks,
            sa.and_(
                tasks.c.project_id == human_annotations.c.project_id, tasks.c.task_id == human_annotations.c.task_id
            ),
        )
        .where(
            human_annotations.c.project_id == project_id,
            human_annotations.c.deleted_at.is_(None),
            tasks.c.deleted_at.is_(None),
        )
        .order_by(human_annotations.c.annotation_id)
    )


def every(store: Store, project_id: int) -> list[Annotation]:
    """All annotations that are there now, on tasks that are there now, by id."""
    names = list(Annotation.__dataclass_fields__)
    with store.read() as connection:
        rows = connection.execute(_alive(project_id)).all()
    return [
        Annotation(**{name: getattr(row, name) for name in names if name != "provenance"},
                   provenance=Provenance(row.provenance))
        for row in rows
    ]  # fmt: skip


def counted(rows: Iterable[Annotation]) -> list[Annotation]:
    """The annotation that counts of each person on each task: the newest, but none that was only bulk accepted while
    there is another; skips and unusable results are left out."""
    best: dict[tuple[int, int], Annotation] = {}
    for row in rows:
        if row.label is None or row.was_cancelled:
            continue
        key = (row.task_id, row.user_id)
        if key not in best or _rank(row) > _rank(best[key]):
            best[key] = row
    return list(best.values())


def _rank(row: Annotation) -> tuple[bool, str, int]:
    return row.provenance is not Provenance.BULK_ACCEPTED, row.updated_at, row.annotation_id


def human_labels(rows: Iterable[Annotation]) -> list[HumanLabel]:
    """One label of each person for each task (see `counted`)."""
    return [
        HumanLabel(str(row.task_id), row.label, str(row.user_id), row.provenance)
        for row in counted(rows) if row.label is not None
    ]  # fmt: skip


def closed_tasks(rows: Iterable[Annotation]) -> set[int]:
    """The tasks that nobody needs to see again: labelled or skipped."""
    return {row.task_id for row in rows}


def row_keys(human: Sequence[HumanLabel]) -> set[str]:
    """A short content address of each label: what has changed since a training is a set difference."""
    return {digest(row.item, row.annotator, row.label, row.provenance)[:12] for row in human}
