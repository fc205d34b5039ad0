"""What people said of an audit's tasks, and where they said nothing that counts.

The first person's answer is the one that is read. A task that cannot be answered any more counts as wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from mollm.records import BoolArray, FloatArray, IntArray, Provenance
from mollm_backend.store import Store, labels
from mollm_backend.store.audits import Audit, AuditTask, frozen_of, tasks_of
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import find as find_project
from mollm_backend.store.schema import audit_tasks, tasks


@dataclass(frozen=True)
class Answers:
    """The n audited tasks that are settled, in their turn; a task that was skipped, edited, deleted or answered with a
    pre-annotation in view counts as wrong.

    `right` (n,): the first person said what was predicted, in each decision. `said` (n,): that person's labels by the
    decision's key; None where there is no usable answer. `in_turn`: how many of the first tasks have no gap between
    them. `skipped`, `lost` (edited or deleted) and `shown` count why an answer cannot be used, of `total` tasks.
    """

    total: int
    task_ids: IntArray
    part: IntArray
    place: IntArray
    right: BoolArray
    probability: FloatArray
    confidence: FloatArray
    said: tuple[dict[str, str] | None, ...]
    in_turn: int
    skipped: int
    lost: int
    shown: int

    @property
    def complete(self) -> bool:
        return len(self.right) == self.total

    def line(self) -> str:
        """For people, such as "212 of 300 answered, 3 skipped"."""
        more = {"skipped": self.skipped, "edited or deleted": self.lost, "with a pre-annotation in view": self.shown}
        rest = "".join(f", {count} {what}" for what, count in more.items() if count)
        return f"{len(self.right)} of {self.total} answered{rest}"


def of(store: Store, project_id: int, audit: Audit) -> Answers:
    """What people said of an audit's tasks so far."""
    drawn = tasks_of(store, project_id, audit.id)
    confidence = frozen_of(store, project_id, audit.id).confidence
    begins = np.concatenate([[0], np.cumsum([part.tasks for part in audit.parts])])
    first = _first(store, project_id, audit.id)
    whole = _whole(store, project_id, audit.id)
    project = find_project(store, project_id)
    sometimes = {row.key for row in project.decisions if row.conditions} if project else set[str]()
    settled, said, why = list[AuditTask](), list[dict[str, str] | None](), list[str]()
    for row in drawn:
        found, problem = (
            (None, "lost") if row.task_id not in whole else _answer(first.get(row.task_id, []), row, sometimes)
        )
        if found is not None or problem:
            settled, said, why = [*settled, row], [*said, found], [*why, problem]
    known = {row.task_id for row in settled}
    return Answers(
        len(drawn),
        np.array([row.task_id for row in settled], dtype=np.int64),
        np.array([row.part for row in settled], dtype=np.int64),
        np.array([row.place for row in settled], dtype=np.int64),
        np.array([say == row.predicted for row, say in zip(settled, said, strict=True)], dtype=np.bool_),
        np.array([row.probability for row in settled]),
        np.array([confidence[begins[row.part] + row.place] for row in settled]),
        tuple(said),
        next((n for n, row in enumerate(drawn) if row.task_id not in known), len(drawn)),
        *(why.count(problem) for problem in ("skipped", "lost", "shown")),
    )


def _first(store: Store, project_id: int, audit_id: str) -> dict[int, list[Annotation]]:
    """The rows of the first annotation of each task of an audit, by task."""
    found: dict[int, list[Annotation]] = {}
    mine = [row.task_id for row in tasks_of(store, project_id, audit_id)]
    rows = labels.every(store, project_id, mine)
    for row in sorted(rows, key=lambda row: (row.created_at, row.annotation_id)):
        group = found.setdefault(row.task_id, [])
        if not group or group[0].annotation_id == row.annotation_id:
            group.append(row)
    return found


def _whole(store: Store, project_id: int, audit_id: str) -> set[int]:
    """The tasks of an audit that are there with the text that they were drawn with."""
    same = sa.and_(tasks.c.project_id == audit_tasks.c.project_id, tasks.c.task_id == audit_tasks.c.task_id)
    query = sa.select(audit_tasks.c.task_id).join(tasks, same)
    here = (audit_tasks.c.project_id == project_id, audit_tasks.c.audit_id == audit_id)
    with store.read() as connection:
        there = (tasks.c.deleted_at.is_(None), tasks.c.text_key == audit_tasks.c.text_key)
        return set(connection.execute(query.where(*here, *there)).scalars())


def _answer(group: Sequence[Annotation], task: AuditTask, sometimes: set[str]) -> tuple[dict[str, str] | None, str]:
    """What a person said of a task, by the decision's key, or why that is no answer ("": there is none yet).

    A decision that is asked only `sometimes` has neither a label nor a problem where another label hides its control.
    """
    said = {row.decision: row.label for row in group if row.decision in task.predicted and row.label is not None}
    if not group:
        return None, ""
    there = {row.decision for row in group if row.label is not None or (row.decision in sometimes and not row.problem)}
    if group[0].was_cancelled or not task.predicted.keys() <= there:
        return None, "skipped"
    return (said, "") if group[0].provenance is Provenance.FROM_SCRATCH else (None, "shown")
