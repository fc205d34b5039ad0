"""What it will take to finish a project: it reads the store and asks the core's plan.

A task that nobody labelled and that the published version does not predict (yet) counts as wrong. A skipped task is
neither open nor part of the pool.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, pairwise
from typing import Any

import numpy as np

from mollm.acceptance.certificate import share_of
from mollm.acceptance.doubt import between
from mollm.acceptance.plan import Finish, Goal, pace, plan
from mollm.records import FloatArray
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.label_config import joint, read
from mollm_backend.labelstudio.left_to_people import lacks
from mollm_backend.store import Store, audit_answers, audits, certificates, labels, tasks, versions
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import Project
from mollm_backend.store.versions import StoredPrediction

RECENT = 200  # annotations that the pace is taken from: people become faster as they go


@dataclass(frozen=True, slots=True)
class Trust:
    """What audits for a certificate have brought so far: how many were decided, how far the open one is in words, how
    many tasks of the pool are `accepted` unseen, and how many of these may be wrong (`spent`)."""

    audits: int = 0
    open: str = ""
    accepted: int = 0
    spent: int = 0


@dataclass(frozen=True)
class Standing:
    """Of the `tasks` of a `project` people have labelled `given`; the plan is None where nothing is predicted yet.

    `seconds`: of a label at the project's own pace (None: not known). `needing`: in how many open tasks people must
    fill something that no LLM is asked about, so that none of them can be accepted unseen; `needed` names it.
    """

    project: int
    tasks: int
    given: int
    trust: Trust
    goal: Goal
    seconds: float | None
    finish: Finish | None
    needing: int = 0
    needed: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """For people: where the project stands, what is certified, and what comes next."""
        promise = f"{self.goal.target:.0%} of all tasks right, promised at {self.goal.confidence:.0%}"
        found = [f"the goal: {promise}", f"people have labelled {self.given} of {self.tasks} tasks", self._trusted()]
        if self.finish is None:
            return [*found, "nothing is predicted yet: ask again when the panel has read the tasks"]
        ends = sorted((self.finish.wrong, self.finish.doubted))
        found.append(
            f"of the {self.finish.open} tasks that nobody has labelled, the mixture itself expects to have some "
            f"{between(*(f'{wrong:.0f}' for wrong in ends))} wrong; {self.finish.allowed} may be"
        )
        if self.needing:
            found.append(
                f"in {self.needing} of them people must fill {' and '.join(self.needed)} (`required`): no certificate "
                "accepts these, so that people label each of them"
            )
        if self.seconds is not None:
            found.append(f"a label takes {self.seconds:.0f} seconds here")
        return [*found, self._next(self.finish)]

    def command(self) -> str:
        """How to draw the audit that comes next, in words; "" where none does."""
        if self.finish is None or self.finish.step != "audit" or self.trust.open:
            return ""
        audit, allowed = self.finish.audit, self.finish.allowed
        return f"`mollm audit {self.project} --whole --labels {audit.labels} --wrong {allowed}` draws it"

    def line(self) -> str:
        """The plan in one line, for the report."""
        if self.finish is None:
            return ""
        return f"To finish with {self.goal.target:.0%} of all tasks right: {self._next(self.finish)}"

    def _next(self, finish: Finish) -> str:
        """What comes next; where what was accepted was promised for less than the goal, nothing else can reach it."""
        if self.within_reach:
            return finish.line()
        bearable = self.goal.allowed(self.tasks)
        return (
            f"Out of reach: {self.trust.spent} of the accepted tasks may be wrong by their certificates, {bearable} of "
            f"all tasks may be. Take them back (`mollm accept {self.project} --undo`) and audit at a higher target, or "
            "choose a lower goal."
        )

    @property
    def within_reach(self) -> bool:
        """Whether the goal can be reached with what is accepted: no more of it may be wrong than the goal bears."""
        return self.trust.spent <= self.goal.allowed(self.tasks)

    def _trusted(self) -> str:
        if self.trust.open:
            return f"{self.trust.open}. People answer it first: the plan below is for the case that it is refused"
        if not self.trust.audits:
            return "no audit was decided, so nothing is certified"
        return f"{self.trust.audits} audits were decided; {self.trust.accepted} tasks are certified and accepted unseen"

    def as_json(self) -> dict[str, Any]:
        return {
            "target": self.goal.target, "confidence": self.goal.confidence, "tasks": self.tasks, "labels": self.given,
            "audits": self.trust.audits, "open_audit": self.trust.open, "accepted": self.trust.accepted,
            "needing_people": self.needing, "seconds_a_label": self.seconds, "within_reach": self.within_reach,
            "plan": None if self.finish is None else self.finish.as_json() | {"line": self.finish.line()},
        }  # fmt: skip


def goal_of(project: Project, batch: int, target: float = 0.95, confidence: float = 0.95) -> Goal:
    """What the project shall reach; `batch` labels a round where it has no number of its own. Raises InputError."""
    return Goal(target, confidence, int(project.options.get("batch_size", batch)))


def of(store: Store, project: Project, goal: Goal, seconds: float | None = None) -> Standing:
    """Where a project stands, at `seconds` a label (None: at the pace that the store knows)."""
    rows = labels.of_people(labels.every(store, project.id))
    trust, accepted = trusted(store, project)
    done = labels.closed_tasks(rows) | accepted
    labelled = labels.labelled_tasks(rows)
    there = [task for task in tasks.every(store, project.id) if not task.problem]
    given = sum(task.task_id in labelled for task in there)
    waiting = {task.task_id: task.text_key for task in there if task.task_id not in done}
    N = given + len(waiting) + len(accepted)
    seconds = seconds or pace(gaps(rows))
    if project.published_version is None or not N:
        return Standing(project.id, N, given, trust, goal, seconds, None)
    predicted = versions.of_tasks(store, project.id, project.published_version or "", list(waiting))
    confidence = _confidence(project, waiting, predicted)
    found = plan(confidence, given, N, goal, seconds, attempts=trust.audits, spent=trust.spent)
    return Standing(project.id, N, given, trust, goal, seconds, found, *_needing(project, predicted))


def _needing(project: Project, predicted: Mapping[int, Mapping[str, StoredPrediction]]) -> tuple[int, tuple[str, ...]]:
    """In how many of the predicted tasks people must fill what is left to them, and the names of these controls."""
    if "required" not in project.label_config:  # reading the label config takes a second
        return 0, ()
    left = read(project.label_config).left
    labels_of = ({key: row.label for key, row in rows.items()} for rows in predicted.values())
    lacking = [lack for mine in labels_of if (lack := lacks(left, project.decisions, mine)) is not None]
    return len(lacking), tuple(sorted({f"{lack.tag} {lack.name!r}" for lack in lacking}))


def trusted(store: Store, project: Project) -> tuple[Trust, set[int]]:
    """What audits have brought, and the tasks that are accepted unseen by a certificate in force."""
    ended = audits.every(store, project.id, purpose=audits.CERTIFICATE, status=audits.DECIDED)
    decided = [audit for audit in ended if audit.target is not None]
    waiting = audits.newest(store, project.id, status=audits.OPEN)
    line = "" if waiting is None else f"{waiting.id} is open: {audit_answers.of(store, project.id, waiting).line()}"
    accepted, spent = set[int](), 0
    for row in certificates.every(store, project.id, status=certificates.GRANTED):
        mine = {one.task_id for state in (certificates.WAITING, certificates.WRITTEN)
                for one in certificates.rows(store, project.id, row.id, state)}  # fmt: skip
        accepted |= mine
        spent += int(share_of(row.target)(np.array(len(mine))))
    return Trust(len(decided), line, len(accepted), spent), accepted


def _confidence(
    project: Project, waiting: Mapping[int, str], predicted: Mapping[int, Mapping[str, StoredPrediction]]
) -> FloatArray:
    """(K,) how sure the published version is of each waiting task, given by id with its text's key; 0: it does not know
    the text."""
    known = {
        task: joint(project.decisions, {key: (row.label, row.confidence) for key, row in answers.items()})
        for task, answers in predicted.items()
        if len(answers) == len(project.decisions) and all(row.text_key == waiting[task] for row in answers.values())
    }
    return np.clip(np.array([known.get(task, 0.0) for task in waiting]), 0.0, 1.0)


def lead_times(store: Store, client: LabelStudioClient, project: Project) -> list[float]:
    """Seconds that the last annotations took, as Label Studio measured them. Raises LabelStudioError."""
    rows = sorted(
        labels.of_people(labels.every(store, project.id)), key=lambda row: (row.created_at, row.annotation_id)
    )
    last = {row.annotation_id: row.task_id for row in rows[-RECENT:]}
    found = client.annotations(project.id, sorted(set(last.values())))
    return [float(row.get("lead_time") or 0) for _, annotations in found for row in annotations if row["id"] in last]


def gaps(rows: Iterable[Annotation]) -> list[float]:
    """Seconds between one annotation and the next of the same person, of the last ones."""
    made = {row.annotation_id: (row.user_id, row.created_at) for row in rows if row.created_at}
    found: list[tuple[datetime, float]] = []
    for _, mine in groupby(sorted(made.values()), key=lambda one: one[0]):
        times = [datetime.fromisoformat(at) for _, at in mine]
        found += [(after, (after - before).total_seconds()) for before, after in pairwise(times)]
    return [gap for _, gap in sorted(found)[-RECENT:]]
