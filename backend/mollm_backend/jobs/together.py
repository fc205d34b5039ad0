"""The boxes of one list are shown together: each has a probability of its own, and a rule makes a set of them.

See `mollm.sets`. The rule is learned with a version and saved beside its mixtures, so that new texts get it too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from mollm.records import FittedState
from mollm.round.run import RoundOutcome
from mollm.sets import SetRule
from mollm_backend.jobs.pools import DecisionPool
from mollm_backend.labelstudio.controls import by_control, control_of
from mollm_backend.store.decisions import Decision
from mollm_backend.store.projects import Project
from mollm_backend.store.versions import StoredPrediction

STATE = "sets"  # the name of the saved rule, after the prefix of its first decision
Rules = Mapping[str, SetRule]
"""By the control's name."""
Fitted = Mapping[str, tuple[DecisionPool, RoundOutcome]]
"""By the decision's key, what a round made of it."""


def fit(project: Project, fitted: Fitted) -> Rules:
    """A rule for each list whose boxes were all decided on the same texts."""
    rules = {}
    for rows in _lists(project):
        mine = [fitted[row.key] for row in rows if row.key in fitted]
        if len(mine) == len(rows) and len({pool.signals.items for pool, _ in mine}) == 1:
            rules[rows[0].control] = _rule(mine)
    return rules


def _lists(project: Project) -> list[tuple[Decision, ...]]:
    return [rows for rows in by_control(project.decisions) if len(rows) > 1 and control_of(rows).boxes]


def _rule(mine: Sequence[tuple[DecisionPool, RoundOutcome]]) -> SetRule:
    probs = np.stack([outcome.probabilities[:, 0] for _, outcome in mine], axis=1)
    # Where each person's label of a task stands among those of each decision.
    said = [{(row.item, row.annotator): h for h, row in enumerate(pool.human_here)} for pool, _ in mine]
    whole = [key for key in said[0] if all(key in places for places in said)]
    if not whole:
        return SetRule.before(probs)
    at = [np.array([places[key] for key in whole]) for places in said]
    heard = [outcome.heard for _, outcome in mine]
    held_out = np.stack([one.mixture[rows, 0] for one, rows in zip(heard, at, strict=True)], axis=1)
    ticked = np.stack([one.targets.label[rows] == 0 for one, rows in zip(heard, at, strict=True)], axis=1)
    weight = np.mean([one.targets.weight[rows] for one, rows in zip(heard, at, strict=True)], axis=0)
    return SetRule.learned(probs, held_out, ticked, weight)


def states(project: Project, rules: Rules) -> dict[str, FittedState]:
    """The rules as they are saved, by name."""
    return {
        _name(project, rows): rules[rows[0].control].state() for rows in _lists(project) if rows[0].control in rules
    }


def saved(project: Project, states: Mapping[str, FittedState]) -> Rules:
    """The rules among a version's saved states; a version of an earlier release has none."""
    named = {rows[0].control: _name(project, rows) for rows in _lists(project)}
    return {control: SetRule.of_state(states[name]) for control, name in named.items() if name in states}


def _name(project: Project, rows: Sequence[Decision]) -> str:
    return f"{project.prefix_of(rows[0])}{STATE}"


def lines(rules: Rules) -> list[str]:
    """One line for people for each rule."""
    return [f"{control}: {rule.line()}" for control, rule in rules.items()]


def labelled(project: Project, rules: Rules, rows: Iterable[StoredPrediction]) -> Iterable[StoredPrediction]:
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
        for task, ticked in zip(whole, rule.choose(probs), strict=True):
            for box, yes in zip(boxes, ticked, strict=True):
                row, at = found[task, box.key], 0 if yes else 1
                label = box.labels.names[at]
                found[task, box.key] = replace(row, label=label, confidence=float(row.probs[at]))
    return found.values()
