"""The suspect human labels of a version: stored when it is trained, listed while their tasks' annotations are the same.

A suspect is listed until somebody edits an annotation of its task, adds one or deletes one: that person has decided.
Only a newer version, which has learned from the decision, may list the label again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mollm.records import digest
from mollm_backend.store import Store, labels, versions
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import Project

STORED = 200
"""Suspects that a version keeps: four batches of 50. With each newer version there is a new list."""


@dataclass(frozen=True, slots=True)
class SuspectLabel:
    """A label that a version doubts, as its facts hold it: `score` in nats, `reason` who says what.

    `seen` is the address of the task's annotations when the version was trained.
    """

    task: int
    annotation: int
    user: int
    given: str
    suggested: str
    score: float
    reason: str
    seen: str
    decision: str = ""


def addresses(annotations: Iterable[Annotation]) -> dict[int, str]:
    """By task: the content address of which annotations it has and when each was last changed."""
    of_task: dict[int, set[tuple[int, str]]] = {}
    for row in annotations:
        of_task.setdefault(row.task_id, set()).add((row.annotation_id, row.updated_at))
    return {task: digest(*(f"{number} {at}" for number, at in sorted(rows)))[:12] for task, rows in of_task.items()}


def known(facts: Mapping[str, Any]) -> bool:
    """Whether the version with these facts has looked for suspects: versions from before this feature have not."""
    return any("suspects" in part for part in (facts, *facts.get("decisions", {}).values()))


def listed(store: Store, project: Project) -> list[SuspectLabel]:
    """What the published version doubts and nobody has decided since, in all decisions; the most suspect first."""
    return undecided(store, project, versions.detail(store, project.id, project.published_version or ""))


def undecided(store: Store, project: Project, facts: Mapping[str, Any]) -> list[SuspectLabel]:
    """What the version with these facts doubts and nobody has decided since."""
    parts = [versions.facts_of(facts, row.key) for row in project.decisions]
    rows = [SuspectLabel(**row) for part in parts for row in part.get("suspects", [])]
    now = addresses(labels.every(store, project.id, sorted({row.task for row in rows})))
    return sorted((row for row in rows if now.get(row.task) == row.seen), key=lambda row: -row.score)
