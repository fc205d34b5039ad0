"""Every task's best label: the person's where there is one, else what a certificate accepted, else the mixture's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from mollm.records import FloatArray, HumanLabel, Provenance
from mollm_backend.store import Store, labels, projects, tasks, versions
from mollm_backend.store.decisions import shown
from mollm_backend.store.tasks import Task

NONE, MIXTURE, HIDDEN = "none", "mixture", "not shown"  # provenances beside those of people's labels


@dataclass(frozen=True)
class Best:
    """A label of one decision ("" where there is none), how probable it is (None: not known), and whose it is.

    `provenance`: how a person's label was made, `certified`, `mixture`, `none`, or `not shown` where the task's other
    labels hide the control. `probabilities` (C,) are the published version's, whoever's the label is.
    """

    label: str
    probability: float | None
    provenance: str
    annotator: str = ""
    probabilities: FloatArray | None = None


@dataclass(frozen=True)
class Row:
    """A task and the best label of each decision, by its key. `version`: that of the mixture's labels in it, or ""."""

    task: Task
    best: Mapping[str, Best]
    version: str


def rows(store: Store, project: projects.Project) -> Iterator[Row]:
    """All tasks, by id."""
    annotations = labels.every(store, project.id)
    keys = [decision.key for decision in project.decisions]
    human = {key: {row.item: row for row in labels.human_labels(annotations, key)} for key in keys}
    certified = {key: labels.certified(annotations, key) for key in keys}
    predictions = versions.of_tasks(store, project.id, project.published_version or "")
    for task in tasks.every(store, project.id):
        mixture = predictions.get(task.task_id, {})
        found = {
            key: _best(human[key].get(str(task.task_id)), certified[key].get(task.task_id), mixture.get(key))
            for key in keys
        }
        seen = shown(project.decisions, {key: row.label or None for key, row in found.items()})
        found |= {key: Best("", None, HIDDEN) for key in keys if key not in seen}
        by_mixture = any(row.provenance == MIXTURE for row in found.values())
        yield Row(task, found, (project.published_version or "") if by_mixture else "")


def _best(person: HumanLabel | None, accepted: str | None, mixture: versions.StoredPrediction | None) -> Best:
    """An accepted label has no probability: its certificate says how many of all are right."""
    probs = None if mixture is None else mixture.probs
    if person is not None:
        return Best(person.label, 1.0, person.provenance.value, person.annotator, probs)
    if accepted is not None:
        return Best(accepted, None, Provenance.CERTIFIED.value, Provenance.CERTIFIED.value, probs)
    if mixture is not None:
        return Best(mixture.label, round(mixture.confidence, 6), MIXTURE, MIXTURE, probs)
    return Best("", 0.0, NONE)
