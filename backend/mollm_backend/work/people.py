"""The weights of human labels in a project, and what is known of its people. It reads the store and calls the core.

A label's weight is the product of two numbers. One is by how it was made (`mollm.people.provenance`); for accepted
labels it is learned, with enough blind labels, from how often people follow what they see (`mollm.people.anchoring`).
The other is by how well people agree with each other (`mollm.people.reliability`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mollm.people import anchoring, provenance, reliability
from mollm.people.anchoring import Effect, Sightings, Worth
from mollm.people.reliability import Person
from mollm.records import FloatArray, HumanLabel, Provenance
from mollm_backend.store import Store, batches, labels, versions
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import Project
from mollm_backend.store.versions import StoredPrediction

Place = tuple[str, int]  # (batch, task id)
WEIGHTS = "provenance_weights"  # the project option with its own weights, by provenance


@dataclass(frozen=True)
class People:
    """The weighted labels that count, the anchoring effect, what was learned from it, and each user (by id)."""

    human: tuple[HumanLabel, ...]
    effect: Effect
    worth: Worth | None
    users: dict[str, Person]

    @property
    def lines(self) -> tuple[str, ...]:
        """Lines for people."""
        found = [self.effect.line]
        accepted = [row.weight for row in self.human if row.provenance is Provenance.ACCEPTED]
        if accepted:
            how = "learned from the blind labels" if self.worth else "by default or by the project's options"
            found.append(f"accepted labels weigh {np.mean(accepted):.2f} on average ({how}); from scratch: 1")
        for user, person in self.users.items():
            if person.agreement is not None and person.reliability is not None:
                found.append(
                    f"user {user}: {person.labels} labels, {person.shared} on tasks that others labelled too; agrees "
                    f"with them on {person.agreement.line()}, reliability {person.reliability.line()}"
                )
        return tuple(found)


def of(
    store: Store, project_id: int, options: Mapping[str, Any], names: Sequence[str],
    annotations: Sequence[Annotation], decision: str = "",
) -> People:  # fmt: skip
    """Weight the labels that count in one decision (by its key), with the project's `options` and label `names`.

    Labels that are not in the config are left out. Raises ConfigError for weights in `options` that cannot be used.
    """
    own = options.get(WEIGHTS, {})
    fixed = provenance.weights(own)
    column = {name: c for c, name in enumerate(names)}
    rows = [row for row in labels.counted(annotations, decision) if row.label in column]
    predictions = _predictions(store, project_id, rows, decision)
    seen = _sightings(rows, predictions)
    learned = None if Provenance.ACCEPTED.value in own else anchoring.worth(seen)
    evidence = np.array([fixed[row.provenance] for row in rows])
    if learned is not None:
        evidence = _with_learned(rows, evidence, predictions, learned)
    users = {user: place for place, user in enumerate(sorted({row.user_id for row in rows}))}
    combined = reliability.combine(
        np.array([row.task_id for row in rows], dtype=np.int64),
        np.array([users[row.user_id] for row in rows], dtype=np.int64),
        np.array([column[row.label or ""] for row in rows], dtype=np.int64),
        evidence, len(column),
    )  # fmt: skip
    weights = evidence * combined.weight
    human = (replace(row, weight=float(w)) for row, w in zip(labels.human_labels(rows, decision), weights, strict=True))
    known = {str(user): combined.people[place] for user, place in users.items()}
    return People(tuple(human), anchoring.effect(seen), learned, known)


def _predictions(
    store: Store, project_id: int, rows: Sequence[Annotation], decision: str
) -> dict[Place, StoredPrediction]:
    """What the mixture predicted for the labels' tasks when their batch was made, by batch and task."""
    found: dict[Place, StoredPrediction] = {}
    for name in sorted({row.shown_version for row in rows if row.shown_version}):
        asked = {row.task_id for row in rows if row.shown_version == name}
        entries = [entry for entry in batches.entries(store, project_id, name) if entry.task_id in asked]
        for version in sorted({entry.version for entry in entries}):
            tasks = [entry.task_id for entry in entries if entry.version == version]
            known = versions.predicted(store, project_id, version, tasks, decision)
            found.update({(name, task): prediction for task, prediction in known.items()})
    return found


def _sightings(rows: Sequence[Annotation], predictions: Mapping[Place, StoredPrediction]) -> Sightings:
    """The labels of batch tasks whose page is known to have shown the mixture's label, or nothing (blind)."""
    batches = sorted({name for name, _ in predictions})
    seen = [
        (row, there)
        for row in rows
        if (there := predictions.get(_place(row))) is not None
        and row.provenance is not Provenance.BULK_ACCEPTED
        and (row.shown_label == there.label or (row.shown_label is None and row.provenance is Provenance.FROM_SCRATCH))
    ]
    return Sightings(
        np.array([row.label == there.label for row, there in seen], dtype=np.bool_),
        np.array([row.shown_label is not None for row, _ in seen], dtype=np.bool_),
        np.clip(np.array([there.confidence for _, there in seen], dtype=np.float64), 0, 1),
        np.array([batches.index(_place(row)[0]) for row, _ in seen], dtype=np.int64),
    )


def _place(row: Annotation) -> Place:
    return row.shown_version or "", row.task_id


def _with_learned(
    rows: Sequence[Annotation], evidence: FloatArray, predictions: Mapping[Place, StoredPrediction], learned: Worth
) -> FloatArray:
    """Accepted labels by how sure the mixture was; where that is not known, by what it was on average."""
    mean = float(np.mean([there.confidence for there in predictions.values()]))
    confidence = np.array([predictions[_place(row)].confidence if _place(row) in predictions else mean for row in rows])
    accepted = np.array([row.provenance is Provenance.ACCEPTED for row in rows], dtype=np.bool_)
    return np.where(accepted, learned.accepted(np.clip(confidence, 0, 1)), evidence)


def as_json(people: People) -> dict[str, Any]:
    """The people as JSON, for the status page and `mollm report --json`."""
    return {
        "anchoring": asdict(people.effect),
        "pull": None if people.worth is None else asdict(people.worth.pull),
        "users": {user: asdict(person) for user, person in people.users.items()},
        "lines": list(people.lines),
    }


def of_project(store: Store, project: Project, annotations: Sequence[Annotation]) -> dict[str, Any]:
    """`as_json` of the project's people, for all its decisions. Raises ConfigError like `of`."""
    each = {
        row.name: as_json(of(store, project.id, project.options, row.labels.names, annotations, row.key))
        for row in project.decisions
    }
    return together(each)


def together(each: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The JSON of a single decision as it is. For several: all of them, and their lines with the decision's name."""
    if len(each) == 1:
        return next(iter(each.values()))
    lines = [f"{name}: {line}" for name, known in each.items() for line in known["lines"]]
    return {"lines": lines, "decisions": dict(each)}
