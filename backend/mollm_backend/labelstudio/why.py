"""What a prediction says of itself in words: how sure it is, why the task came, what each LLM says.

Label Studio's labelling screen shows only a prediction's version and its score, which is the place in the batch. But
the Data Manager shows all of a result, in the order in which it was written: so the words come first, and begin with
the confidence, by which that column can be sorted. What people submit does not contain them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mollm_backend.labelstudio import show_why
from mollm_backend.labelstudio.controls import by_control, control_of
from mollm_backend.labelstudio.label_config import results_of
from mollm_backend.store import Store, signals, tasks
from mollm_backend.store.decisions import Decision
from mollm_backend.store.projects import Project

KEY = "why"  # the key of the words in a result; the shortest one: PostgreSQL puts the shortest first
SURE = " % sure: "  # stands in the words of every prediction that shows something, and nowhere else
Said = Mapping[str, str]  # what the LLMs say, by the decision's key


def result(
    project: Project, predicted: Mapping[str, tuple[str, float]], reason: str = "", said: Said | None = None
) -> list[dict[str, Any]]:
    """Label Studio's result for labels and confidences (by the decision's key), each part with its words.

    `reason`: why the task is in the batch. Raises InputError as `results_of` does.
    """
    rows = {group[0].control: group for group in by_control(project.decisions)}
    labels = {key: label for key, (label, _) in predicted.items()}
    parts = [
        {KEY: _words(rows[part["from_name"]], labels, part["score"], reason, said or {})} | part
        for part in results_of(project.decisions, predicted)
    ]
    if parts and show_why.shows(project.label_config):
        several = len(rows) > 1
        lines = [f"{part['from_name']}: {part[KEY]}" if several else part[KEY] for part in parts]
        where = {"from_name": show_why.CONTROL, "to_name": parts[0]["to_name"], "type": "textarea"}
        parts.append(where | {"value": {"text": ["\n".join(lines)]}})
    return parts


def _words(decisions: Sequence[Decision], labels: Mapping[str, str], confidence: float, reason: str, said: Said) -> str:
    """Such as `31 % sure: Red; chosen: margin; qwen: Red 40 %, smol: Blue 35 %`."""
    words = f"{_percent(confidence)}{SURE}{_shown(decisions, labels)}"
    more = [f"chosen: {reason}"] if reason else []
    if len(decisions) == 1 and said.get(decisions[0].key):
        more.append(said[decisions[0].key])
    return "; ".join([words, *more])


def _shown(decisions: Sequence[Decision], labels: Mapping[str, str]) -> str:
    """What is chosen, as people read it on the labelling screen (a Choice's value, where its alias is stored)."""
    one = decisions[0]
    if len(decisions) == 1 and not one.part:
        return one.labels.text_of(one.labels.index(labels[one.key]))
    return control_of(decisions).words(decisions, labels)


def _percent(confidence: float) -> str:
    """Two digits, so that texts sort as the numbers do; nothing is ever 100 % sure."""
    return f"{min(int(confidence * 100), 99):02}"


def panel_says(store: Store, project: Project, task_ids: Sequence[int]) -> dict[int, dict[str, str]]:
    """What each LLM says of the tasks, by task and the decision's key: its label and how probable it finds that."""
    there = tasks.some(store, project.id, task_ids)
    rows = [there[task_id] for task_id in task_ids if task_id in there]
    found: dict[int, dict[str, str]] = {row.task_id: {} for row in rows}
    for decision in project.decisions if rows else ():
        try:
            panel = signals.load(store, project, rows, decision)
        except ValueError:  # the labels have changed since the panel answered: it is asked again
            continue
        best = np.nan_to_num(panel.label_probs).argmax(axis=2)
        for n, row in enumerate(rows):
            said = [
                f"{name}: {decision.labels.text_of(int(best[n, m]))} {panel.label_probs[n, m, best[n, m]]:.0%}"
                for m, name in enumerate(panel.annotators)
                if not panel.missing[n, m]
            ]
            found[row.task_id][decision.key] = ", ".join(said)
    return found
