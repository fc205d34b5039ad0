"""The boxes of one list are shown together: each has a probability of its own, and a rule makes a set of them.

See `mollm.sets`. The rule is learned with a version and saved beside its mixtures, with what the panel says of each box
before any label, so that new texts get it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from mollm.mixture.logpool import LogPool, before_labels
from mollm.records import BoolArray, FittedState, FloatArray, Signals
from mollm.round.run import RoundOutcome
from mollm.sets import SetRule
from mollm_backend.jobs.pools import DecisionPool
from mollm_backend.labelstudio.controls import by_control, control_of
from mollm_backend.store.decisions import Decision
from mollm_backend.store.projects import Project
from mollm_backend.store.tasks import Task
from mollm_backend.store.versions import StoredPrediction

STATE, PANEL = "sets", "unlearned"  # names of saved states: of the rule, after its first box's prefix; of each box


@dataclass(frozen=True)
class Boxes:
    """How the boxes of a list are ticked: the rule, and of each box what the panel says before any label."""

    rule: SetRule
    panels: tuple[LogPool, ...]

    def tick(self, signals: Sequence[Signals], probs: FloatArray) -> BoolArray:
        """(N, K) from each box's signals and its learned probabilities (N, K)."""
        if self.rule.learned:
            return self.rule.choose(probs, probs)
        said = [panel.predict_proba(one)[:, 0] for panel, one in zip(self.panels, signals, strict=True)]
        return self.rule.choose(np.stack(said, axis=1), probs)


Rules = Mapping[str, Boxes]
"""By the control's name."""
Fitted = Mapping[str, tuple[DecisionPool, RoundOutcome]]
"""By the decision's key, what a round made of it."""
Read = Mapping[str, tuple[Sequence[Task], Signals]]
"""By the decision's key, the tasks that the panel has read and what it said."""


def fit(project: Project, fitted: Fitted) -> Rules:
    """A rule for each list whose boxes were all decided on the same texts."""
    rules = {}
    for rows in _lists(project):
        mine = [fitted[row.key] for row in rows if row.key in fitted]
        if len(mine) == len(rows) and len({pool.signals.items for pool, _ in mine}) == 1:
            frequencies = control_of(rows).frequencies(rows)
            panels = tuple(before_labels(pool.signals, frequencies) for pool, _ in mine)
            rules[rows[0].control] = Boxes(_rule(mine, panels), panels)
    return rules


def _lists(project: Project) -> list[tuple[Decision, ...]]:
    return [rows for rows in by_control(project.decisions) if len(rows) > 1 and control_of(rows).boxes]


def _rule(mine: Sequence[tuple[DecisionPool, RoundOutcome]], panels: Sequence[LogPool]) -> SetRule:
    said = np.stack(
        [panel.predict_proba(pool.signals)[:, 0] for panel, (pool, _) in zip(panels, mine, strict=True)], axis=1
    )
    # Where each person's label of a task stands among those of each decision.
    places = [{(row.item, row.annotator): h for h, row in enumerate(pool.human_here)} for pool, _ in mine]
    whole = [key for key in places[0] if all(key in one for one in places)]
    if not whole:
        return SetRule.before(said)
    at = [np.array([one[key] for key in whole]) for one in places]
    heard = [(outcome.heard, rows) for (_, outcome), rows in zip(mine, at, strict=True)]
    held_out = np.stack([one.mixture[rows, 0] for one, rows in heard], axis=1)
    ticked = np.stack([one.targets.label[rows] == 0 for one, rows in heard], axis=1)
    weight = np.mean([one.targets.weight[rows] for one, rows in heard], axis=0)
    first, rows = heard[0]
    return SetRule.fitted(said, first.targets.index[rows], held_out, ticked, weight)


def states(project: Project, rules: Rules) -> dict[str, FittedState]:
    """The rules as they are saved, by name."""
    found = {}
    for rows in _lists(project):
        boxes = rules.get(rows[0].control)
        if boxes is not None:
            found[_name(project, rows[0], STATE)] = boxes.rule.state()
            for row, panel in zip(rows, boxes.panels, strict=True):
                found[_name(project, row, PANEL)] = panel.state()
    return found


def saved(project: Project, states: Mapping[str, FittedState]) -> Rules:
    """The rules among a version's saved states; a version of an earlier release has none that can be used."""
    rules = {}
    for rows in _lists(project):
        rule, panels = _name(project, rows[0], STATE), [_name(project, row, PANEL) for row in rows]
        if {rule, *panels} <= states.keys():
            read = tuple(LogPool.from_state(states[name]) for name in panels)
            rules[rows[0].control] = Boxes(SetRule.of_state(states[rule]), read)
    return rules


def _name(project: Project, decision: Decision, what: str) -> str:
    return f"{project.prefix_of(decision)}{what}"


def lines(rules: Rules) -> list[str]:
    """One line for people for each rule."""
    return [f"{control}: {boxes.rule.line()}" for control, boxes in rules.items()]


def labelled(
    project: Project, rules: Rules, read: Read, rows: Iterable[StoredPrediction]
) -> Iterable[StoredPrediction]:
    """The predictions with the labels that the rules choose; each one's confidence is its label's probability.

    A task of which some box of the list is not predicted keeps its labels.
    """
    if not rules:
        return rows
    found = {(row.task_id, row.decision): row for row in rows}
    for boxes in _lists(project):
        rule = rules.get(boxes[0].control)
        keys = [box.key for box in boxes]
        whole = [task for task, key in found if key == keys[0] and all((task, each) in found for each in keys)]
        if rule is None or not whole:
            continue
        probs = np.array([[found[task, key].probs[0] for key in keys] for task in whole])
        for task, ticked in zip(whole, rule.tick([_of(whole, *read[key]) for key in keys], probs), strict=True):
            for box, yes in zip(boxes, ticked, strict=True):
                row, at = found[task, box.key], 0 if yes else 1
                label = box.labels.names[at]
                found[task, box.key] = replace(row, label=label, confidence=float(row.probs[at]))
    return found.values()


def _of(task_ids: Sequence[int], tasks: Sequence[Task], signals: Signals) -> Signals:
    """The signals of these tasks, in their order."""
    place = {task.task_id: n for n, task in enumerate(tasks)}
    return signals.take(np.array([place[task_id] for task_id in task_ids]))
