"""What one training reads of one decision, taken from the store at one moment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from mollm.records import BoolArray, HumanLabel, Signals, Targets
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.store import Store, audits, labels, signals, tasks
from mollm_backend.store.decisions import Decision
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import Project
from mollm_backend.store.tasks import Task
from mollm_backend.work import people


@dataclass(frozen=True)
class DecisionPool:
    """All that one training reads of a decision. `tasks` (N) is in the order of `signals`.

    `annotations` are without those of open audits, and `apart` are the tasks of these.
    """

    decision: Decision
    tasks: tuple[Task, ...]
    signals: Signals
    human: tuple[HumanLabel, ...]
    annotations: tuple[Annotation, ...]
    people: dict[str, Any] = field(default_factory=dict)  # what is known of those who labelled
    apart: frozenset[int] = frozenset()

    @property
    def targets(self) -> Targets:
        return Targets.from_human(self.human, self.signals.items, self.signals.labels)

    @property
    def label_keys(self) -> list[str]:
        """A name for each row of the targets, in their order: what two versions say of a label is paired by it."""
        return [f"{row.item}/{row.annotator}/{row.label}" for row in self.human_here]

    @property
    def human_here(self) -> list[HumanLabel]:
        """The label of each row of the targets."""
        place = set(self.signals.items)
        return [row for row in self.human if row.item in place]

    @property
    def open_items(self) -> BoolArray:
        """(N,) True where a person may be asked: neither labelled nor skipped, nor in an open audit."""
        closed = labels.closed_tasks(self.annotations) | self.apart
        return np.array([task.task_id not in closed for task in self.tasks], dtype=np.bool_)


def read_pools(runtime: Runtime, project: Project) -> list[DecisionPool]:
    """A pool a decision: the readable tasks that at least one annotator has answered, without few-shot examples.

    A decision that no annotator has read anything of yet (it is new) is left out.
    """
    rows = [task for task in tasks.every(runtime.store, project.id) if not task.problem]
    annotations = tuple(audits.usable(runtime.store, project.id))
    apart = frozenset(audits.set_aside(runtime.store, project.id))
    pools = [_pool(runtime, project, decision, rows, annotations) for decision in project.decisions]
    return [replace(pool, apart=apart) for pool in pools if pool.tasks]


def known_rows(
    store: Store, project: Project, decision: Decision, rows: Sequence[Task], heard: BoolArray | None = None
) -> tuple[tuple[Task, ...], Signals]:
    """The tasks that at least one annotator has answered, without few-shot examples, and the panel's signals on them.

    `heard` (M,) marks the annotators whose answers count (None: all); the others count as having said nothing.
    """
    shots = {row[0] for row in project.options.get("shots", [])}
    rows = [task for task in rows if task.text not in shots]
    panel = signals.load(store, project, rows, decision)
    if heard is not None:
        panel.label_probs[:, ~heard] = panel.votes[:, ~heard] = np.nan
    answered = np.asarray(~panel.missing.all(axis=1), dtype=np.bool_)
    return tuple(task for task, known in zip(rows, answered, strict=True) if known), panel.take(answered)


def _pool(
    runtime: Runtime, project: Project, decision: Decision, rows: Sequence[Task], annotations: tuple[Annotation, ...]
) -> DecisionPool:
    kept, panel = known_rows(runtime.store, project, decision, rows)
    known_people = people.of(
        runtime.store, project.id, project.options, decision.labels.names, annotations, decision.key
    )  # fmt: skip
    return DecisionPool(decision, kept, panel, known_people.human, annotations, people.as_json(known_people))
