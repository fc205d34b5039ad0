"""Pre-annotations for Label Studio, read from the store: a request never waits for a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mollm.errors import InputError
from mollm.records import digest
from mollm_backend.labelstudio import label_config, why
from mollm_backend.labelstudio.events import AskedTask
from mollm_backend.labelstudio.publish import is_blind
from mollm_backend.labelstudio.task_text import text_of
from mollm_backend.store import Store, audits, batches, versions
from mollm_backend.store.projects import Project


def shown_version(project: Project | None) -> str:
    """The version with which Label Studio compares the versions of its stored predictions."""
    return (project.batch_version if project else None) or "mollm-waiting"


def answers(store: Store, project: Project, asked: Sequence[AskedTask]) -> list[dict[str, Any]]:
    """One answer for each task, in order; `{}` if it has no label yet or cannot have one (never null, never [])."""
    if project.published_version is None:
        return [{} for _ in asked]
    known = versions.of_tasks(store, project.id, project.published_version, [task.task_id for task in asked])
    ranks = batches.ranks(store, project.id, project.batch_version or "", [task.task_id for task in asked])
    apart = audits.set_aside(store, project.id)
    found_answers: list[dict[str, Any]] = []
    for task in asked:
        text_key = _text_key(task, project)
        rows = known.get(task.task_id, {})
        predicted = {
            decision.key: (rows[decision.key].label, rows[decision.key].confidence)
            for decision in project.decisions
            if decision.key in rows and rows[decision.key].text_key == text_key
        }
        # A blind task whose blank prediction is not imported yet: it must not be shown now.
        blind = task.task_id in ranks and is_blind(project, shown_version(project), task.task_id)
        if not predicted or blind or task.task_id in apart:
            found_answers.append({})
            continue
        result = why.result(project, predicted)
        rank = ranks.get(task.task_id)
        sure = label_config.joint(project.decisions, predicted)
        score = label_config.outside_score(sure) if rank is None else label_config.rank_score(rank)
        found_answers.append({"result": result, "score": score, "model_version": shown_version(project)})
    return found_answers


def _text_key(task: AskedTask, project: Project) -> str:
    try:
        return digest(text_of(task.data, project.decisions))
    except InputError:
        return ""
