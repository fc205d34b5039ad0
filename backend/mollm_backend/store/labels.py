"""Human annotations in the store: the truth that outranks all. Tombstoned, never deleted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mollm.records import HumanLabel, Provenance, digest
from mollm_backend.store import Store, among, in_chunks, now, revisions
from mollm_backend.store.schema import human_annotations, tasks

# From the weakest evidence to the strongest; a later pass never lowers what was written at first sight.
_STRENGTH = [kind.value for kind in (
    Provenance.CERTIFIED, Provenance.BULK_ACCEPTED, Provenance.ACCEPTED, Provenance.EDITED, Provenance.FROM_SCRATCH,
)]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Annotation:
    """An annotation as Label Studio holds it, as far as one decision goes.

    `label` is None for a skip or an unusable result (`problem`: why). All rows of an annotation agree in what is not
    about the decision; `provenance` is the whole annotation's.
    """

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
    decision: str = ""


_PROVENANCE = list(Annotation.__dataclass_fields__).index("provenance")


_BY_PEOPLE = human_annotations.c.provenance != Provenance.CERTIFIED.value


def by_annotation(rows: Iterable[Annotation]) -> dict[int, list[Annotation]]:
    """The rows of each annotation, one a decision."""
    found: dict[int, list[Annotation]] = {}
    for row in rows:
        found.setdefault(row.annotation_id, []).append(row)
    return found


def upsert(store: Store, project_id: int, rows: Sequence[Annotation]) -> None:
    """Insert or replace annotations, each with all its rows.

    What was shown, once known, is never lowered to unknown by a later pass.
    """
    annotations = list(by_annotation(rows).items())
    for chunk in in_chunks(annotations):
        here = (human_annotations.c.project_id == project_id,
                human_annotations.c.annotation_id.in_([number for number, _ in chunk]))  # fmt: skip
        with store.write() as connection:
            known: dict[int, dict[str, sa.Row[Any]]] = {}
            for row in connection.execute(sa.select(human_annotations).where(*here)):
                known.setdefault(row.annotation_id, {})[row.decision] = row
            connection.execute(human_annotations.delete().where(*here))
            values = [_values(project_id, group, known.get(number, {})) for number, group in chunk]
            connection.execute(human_annotations.insert(), [row for group in values for row in group])
            revisions.note(connection, revisions.of_labels(project_id))


def _values(project_id: int, group: Sequence[Annotation], known: Mapping[str, sa.Row[Any]]) -> list[dict[str, Any]]:
    """An annotation's rows as they are written; `known` is what the store says of it, by decision."""
    before = next(iter(known.values()), None)
    provenance = group[0].provenance.value
    # Label Studio nulls parent_prediction when a version is deleted: keep what was seen first.
    unseen = (Provenance.FROM_SCRATCH, Provenance.CERTIFIED)
    lost = before is not None and group[0].parent_prediction is None and before.provenance not in unseen
    if before is not None and lost:
        pairs = [(row.label, known[row.decision]) for row in group if row.decision in known]
        edited = any(label != (was.label if was.shown_label is None else was.shown_label) for label, was in pairs)
        provenance = Provenance.EDITED.value if edited else before.provenance
    if before is not None and any(was.label is not None for was in known.values()):
        # A skip says nothing of how a label came about.
        provenance = max(provenance, before.provenance, key=_STRENGTH.index)
    common = {"project_id": project_id, "provenance": provenance, "deleted_at": None}
    if before is not None and lost:
        common |= {"parent_prediction": before.parent_prediction, "shown_version": before.shown_version}
    rows = [{name: getattr(row, name) for name in Annotation.__dataclass_fields__} | common for row in group]
    for row in rows if lost else []:
        if row["decision"] in known:
            row["shown_label"] = known[row["decision"]].shown_label
    return rows


def tombstone(store: Store, project_id: int, annotation_ids: Sequence[int]) -> None:
    """Mark annotations as deleted in Label Studio; their rows stay."""
    for chunk in in_chunks(annotation_ids):
        with store.write() as connection:
            connection.execute(
                human_annotations.update()
                .where(human_annotations.c.project_id == project_id, human_annotations.c.annotation_id.in_(chunk),
                       human_annotations.c.deleted_at.is_(None))
                .values(deleted_at=now())
            )  # fmt: skip
            revisions.note(connection, revisions.of_labels(project_id))


def closed(of: sa.FromClause) -> sa.ColumnElement[bool]:
    """The condition that a person has labelled or skipped the task of a row of `of`."""
    same = (human_annotations.c.project_id == of.c.project_id, human_annotations.c.task_id == of.c.task_id)
    return sa.exists().where(*same, human_annotations.c.deleted_at.is_(None))


def _alive(project_id: int, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    """Columns of the annotations that are there, on tasks that are there."""
    same = (tasks.c.project_id == human_annotations.c.project_id, tasks.c.task_id == human_annotations.c.task_id)
    here = (human_annotations.c.project_id == project_id, human_annotations.c.deleted_at.is_(None))
    joined = human_annotations.join(tasks, sa.and_(*same))
    return sa.select(*columns).select_from(joined).where(*here, tasks.c.deleted_at.is_(None))


def every(store: Store, project_id: int, task_ids: Sequence[int] | None = None) -> list[Annotation]:
    """The annotations that are there now on the named tasks (None: on all) that are there now, by id."""
    columns = [human_annotations.c[name] for name in Annotation.__dataclass_fields__]
    query = _alive(project_id, *columns).order_by(human_annotations.c.annotation_id, human_annotations.c.decision)
    column = human_annotations.c.task_id  # not that of the tasks: the database then takes the index of annotations
    with store.read() as connection:
        rows = [row for wanted in among(column, task_ids) for row in connection.execute(query.where(wanted))]
    return [_annotation(list(row)) for row in rows]


def _annotation(values: list[Any]) -> Annotation:
    """An annotation from its fields, in their order."""
    values[_PROVENANCE] = Provenance(values[_PROVENANCE])
    return Annotation(*values)


def of_people(rows: Iterable[Annotation]) -> list[Annotation]:
    """The annotations that a person made or touched, without what a certificate accepted."""
    return [row for row in rows if row.provenance is not Provenance.CERTIFIED]


def labelled_tasks(rows: Iterable[Annotation]) -> set[int]:
    """The tasks that people have given a label."""
    return {row.task_id for row in of_people(rows) if row.label is not None and not row.was_cancelled}


def counted(rows: Iterable[Annotation], decision: str = "") -> list[Annotation]:
    """The annotation that counts of each person on each task in one decision.

    The newest, but none that was only bulk accepted while there is another; skips, unusable results and what a
    certificate accepted are left out.
    """
    best: dict[tuple[int, int], Annotation] = {}
    for row in of_people(rows):
        if row.decision != decision or row.label is None or row.was_cancelled:
            continue
        key = (row.task_id, row.user_id)
        if key not in best or _rank(row) > _rank(best[key]):
            best[key] = row
    return list(best.values())


def certified(rows: Iterable[Annotation], decision: str = "") -> dict[int, str]:
    """The labels in one decision that a certificate accepted, by task: nobody's."""
    mine = (row for row in rows if row.decision == decision and row.provenance is Provenance.CERTIFIED)
    return {row.task_id: row.label for row in mine if row.label is not None}


def _rank(row: Annotation) -> tuple[bool, str, int]:
    return row.provenance is not Provenance.BULK_ACCEPTED, row.updated_at, row.annotation_id


def human_labels(rows: Iterable[Annotation], decision: str = "") -> list[HumanLabel]:
    """One label of each person for each task in one decision (see `counted`)."""
    return [
        HumanLabel(str(row.task_id), row.label, str(row.user_id), row.provenance)
        for row in counted(rows, decision) if row.label is not None
    ]  # fmt: skip


def count(store: Store, project_id: int) -> int:
    """How many tasks people have labelled, each person's counted, whatever the number of decisions."""
    which = (human_annotations.c.label.is_not(None), human_annotations.c.was_cancelled.is_(False), _BY_PEOPLE)
    pairs = _alive(project_id, human_annotations.c.task_id, human_annotations.c.user_id).where(*which).distinct()
    with store.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(pairs.subquery())).scalar_one())


def closed_count(store: Store, project_id: int) -> int:
    """How many of the readable tasks people have labelled or skipped."""
    number = sa.func.count(human_annotations.c.task_id.distinct())
    with store.read() as connection:
        return int(connection.execute(_alive(project_id, number).where(tasks.c.problem == "")).scalar_one())


@dataclass(frozen=True, slots=True)
class Counts:
    """`closed`: readable tasks that somebody has labelled or skipped, or that are accepted unseen. `labels`: as `count`
    says. `how`: the annotations that hold any label, by how they came about."""

    closed: int
    labels: int
    how: dict[str, int]


def counts(store: Store, project_id: int) -> Counts:
    """The numbers that a page shows."""
    return Counts(closed_count(store, project_id), count(store, project_id), how(store, project_id))


def revision(store: Store, project_id: int) -> int:
    """How often the project's labels were written: while it is the same, so are they."""
    subject = revisions.of_labels(project_id)
    return revisions.read(store, subject).get(subject, 0)


def totals(store: Store, project_id: int) -> tuple[int, int, str]:
    """How many annotations there are, certified ones too; of how many people; and when one of these made the last.

    "" for the time: it is not known.
    """
    column = human_annotations.c
    person, at = (sa.case((_BY_PEOPLE, column[name])) for name in ("user_id", "updated_at"))
    numbers = sa.func.count(column.annotation_id.distinct()), sa.func.count(person.distinct())
    last = sa.case((sa.func.min(at) != "", sa.func.max(at)), else_="")
    with store.read() as connection:
        annotations, people, at = connection.execute(_alive(project_id, *numbers, last)).one()
    return int(annotations), int(people), at


def how(store: Store, project_id: int) -> dict[str, int]:
    """How many of the annotations that hold any label came about in each way."""
    which, number = human_annotations.c.provenance, sa.func.count(human_annotations.c.annotation_id.distinct())
    query = _alive(project_id, which, number).where(human_annotations.c.label.is_not(None)).group_by(which)
    with store.read() as connection:
        return {provenance: int(count) for provenance, count in connection.execute(query)}


def closed_tasks(rows: Iterable[Annotation]) -> set[int]:
    """The tasks that nobody needs to see again: labelled or skipped."""
    return {row.task_id for row in rows}


def row_keys(*human: Sequence[HumanLabel]) -> set[str]:
    """A short content address of what each person says of each task: what has changed is a set difference.

    One sequence a decision, always in the same order: a person's labels for a task count once.
    """
    if len(human) == 1:
        return {digest(row.item, row.annotator, row.label, row.provenance)[:12] for row in human[0]}
    of_person: dict[tuple[str, str], list[str]] = {}
    for d, rows in enumerate(human):
        for row in rows:
            of_person.setdefault((row.item, row.annotator), []).append(f"{d} {row.label} {row.provenance}")
    return {digest(*who, *labels)[:12] for who, labels in of_person.items()}
