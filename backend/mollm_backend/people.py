"""What the labels of a project's people weigh, and what is known of the people: from the store, by the core's figures.

Three things multiply: how a label came about (`mollm.provenance`), how far people follow what they see
(`mollm.anchoring`, where blind labels allow it), and who agrees with whom (`mollm.reliability`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from mollm import anchoring, provenance, reliability
from mollm.anchoring import Effect, Sightings, Worth
from mollm.records import FloatArray, HumanLabel, Provenance
from mollm.reliability import Person
from mollm.store import Store, labels, versions
from mollm.store.labels import Annotation
from mollm.store.projects import Project
from mollm.store.versions import StoredEntry

WEIGHTS = "provenance_weights"  # the option that holds a project's own weights, by provenance


@dataclass(frozen=True)
class People:
    """The labels that count, weighed; the anchoring effect and what was learned from it; each user (by id)."""

    human: tuple[HumanLabel, ...]
    effect: Effect
    worth: Worth | None
    users: dict[str, Person]

    @property
    def lines(self) -> tuple[str, ...]:
        """What to tell people, one line each."""
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


def of(store: Store, project: Project, annotations: Sequence[Annotation]) -> People:
    """Weigh the labels that count of a project's annotations. Labels that the config does not know are left out.

    Raises ConfigError for weights in the project's options that cannot be used.
    """
    own = project.options.get(WEIGHTS, {})
    fixed = provenance.weights(own)
    names = set(project.label_task.labels.names)
    rows = [row for row in labels.counted(annotations) if row.label in names]
    entries = _entries(store, project.id, rows)
    seen = _sightings(rows, entries)
    learned = None if Provenance.ACCEPTED.value in own else anchoring.worth(seen)
    evidence = np.array([fixed[row.provenance] for row in rows])
    if learned is not None and len(rows):
        evidence = _with_learned(rows, evidence, entries, learned)
    users = sorted({row.user_id for row in rows})
    column = {name: c for c, name in enumerate(project.label_task.labels.names)}
    combined = reliability.combine(
        np.array([row.task_id for row in rows], dtype=np.int64),
        np.array([users.index(row.user_id) for row in rows], dtype=np.int64),
        np.array([column[row.label or ""] for row in rows], dtype=np.int64),
        evidence, len(column),
    )  # fmt: skip
    human = [
        replace(label, weight=float(weight))
        for label, weight in zip(labels.human_labels(rows), evidence * combined.weight, strict=True)
    ]
    known = {str(user): person for user, person in zip(users, combined.people, strict=True)}
    return People(tuple(human), anchoring.effect(seen), learned, known)


def _entries(store: Store, project_id: int, rows: Sequence[Annotation]) -> dict[tuple[str, int], StoredEntry]:
    """The batch entries that the labels were made from, by batch and task."""
    found = {}
    for name in sorted({row.shown_version for row in rows if row.shown_version}):
        found.update({(name, entry.task_id): entry for entry in versions.batch(store, project_id, name)})
    return found


def _sightings(rows: Sequence[Annotation], entries: dict[tuple[str, int], StoredEntry]) -> Sightings:
    """The labels of batch tasks whose page is known to have shown the batch's label, or nothing (blind)."""
    batches = sorted({name for name, _ in entries})
    seen = [
        (row, entry)
        for row in rows
        if (entry := entries.get((row.shown_version or "", row.task_id))) is not None
        and row.provenance is not Provenance.BULK_ACCEPTED
        and (row.shown_label == entry.label or (row.shown_label is None and row.provenance is Provenance.FROM_SCRATCH))
    ]
    return Sightings(
        np.array([row.label == entry.label for row, entry in seen], dtype=np.bool_),
        np.array([row.shown_label is not None for row, _ in seen], dtype=np.bool_),
        np.clip(np.array([entry.confidence for _, entry in seen], dtype=np.float64), 0, 1),
        np.array([batches.index(row.shown_version or "") for row, _ in seen], dtype=np.int64),
    )


def _with_learned(
    rows: Sequence[Annotation], evidence: FloatArray, entries: dict[tuple[str, int], StoredEntry], learned: Worth
) -> FloatArray:
    """Accepted labels by what the mixture's confidence was; where it is not known, by the others' mean."""
    accepted = np.array([row.provenance is Provenance.ACCEPTED for row in rows], dtype=np.bool_)
    if not accepted.any():
        return evidence
    places = [entries.get((row.shown_version or "", row.task_id)) for row in rows]
    confidence = np.array([np.nan if place is None else place.confidence for place in places])
    known = [place.confidence for place in entries.values()]
    confidence = np.clip(np.where(np.isnan(confidence), np.mean(known), confidence), 0, 1)
    return np.where(accepted, learned.accepted(confidence), evidence)


def as_json(people: People) -> dict[str, Any]:
    """For the status page and `mollm report --json`."""
    return {
        "anchoring": asdict(people.effect),
        "pull": None if people.worth is None else asdict(people.worth.pull),
        "users": {user: asdict(person) for user, person in people.users.items()},
        "lines": list(people.lines),
    }
