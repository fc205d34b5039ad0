"""What people see next: the first tasks of the batch with their text, what is shown there, and what each LLM said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np

from mollm.config import LoopConfig
from mollm.records import FloatArray
from mollm_backend.labelstudio import publish
from mollm_backend.store import Store, batches, signals, tasks
from mollm_backend.store.batches import StoredEntry
from mollm_backend.store.decisions import Decision
from mollm_backend.store.projects import Project
from mollm_backend.store.tasks import Task

SHOWN = 10  # tasks: a look at what comes, not the work itself
TEXT = 1000  # characters of a text: a page of ten stays light


def of_project(store: Store, project: Project, noted_size: int | None) -> dict[str, Any]:
    """The current batch. Of its `open` tasks `waiting` are the batch itself and `reserve` stand behind it, so that
    nobody waits for a training; `next` are the first ones in the order in which people see them.
    """
    name = project.batch_version or ""
    entries = batches.entries(store, project.id, name)
    there = batches.open_tasks(store, project.id, name)
    still_open = [entry for entry in entries if entry.task_id in there]
    size = int(project.options.get("batch_size") or noted_size or LoopConfig.model_fields["batch_size"].default)
    seen = publish.as_people_see(store, project, still_open[:SHOWN])
    return {
        "version": project.batch_version, "tasks": len(entries), "size": size, "open": len(still_open),
        "waiting": min(size, len(still_open)), "reserve": max(len(still_open) - size, 0),
        "published": sum(entry.published_at is not None for entry in entries), "next": _rows(store, project, seen),
    }  # fmt: skip


def _rows(store: Store, project: Project, seen: list[StoredEntry]) -> list[dict[str, Any]]:
    """A row a task. Of a task that is shown without a pre-annotation nothing is told here either: who labels it may
    read this page."""
    known = tasks.some(store, project.id, [entry.task_id for entry in seen])
    told = _said(store, project, [known[entry.task_id] for entry in seen if not entry.blind])
    return [
        asdict(entry) | {
            "place": place, "blind": entry.blind, "text": (known[entry.task_id].text or "")[:TEXT],
            "said": told.get(entry.task_id, []),
        }
        for place, entry in enumerate(seen, 1)
    ]  # fmt: skip


def _said(store: Store, project: Project, rows: list[Task]) -> Mapping[int, list[dict[str, Any]]]:
    """By task what each LLM said: `who`, `label` (None: it abstained or has not answered) and the label's `share`."""
    found: dict[int, list[dict[str, Any]]] = {row.task_id: [] for row in rows}
    for decision in project.decisions if rows else ():
        panel = signals.load(store, project, rows, decision)
        mass = np.nan_to_num(panel.label_probs)
        for n, row in enumerate(rows):
            for m, who in enumerate(panel.annotators):
                name = decision.name if decision.key else ""
                found[row.task_id].append({"who": who, "decision": name} | _answer(decision, mass[n, m]))
    return found


def _answer(decision: Decision, mass: FloatArray) -> dict[str, Any]:
    """An LLM's most probable label from its `mass` (C,), and the label's share of it."""
    total, best = float(mass.sum()), int(mass.argmax())
    if not total:
        return {"label": None, "share": None}
    return {"label": decision.labels.text_of(best), "share": float(mass[best]) / total}
