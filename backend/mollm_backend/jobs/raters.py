"""How often each LLM and each person says a class where others say it: the rows of a heat map, each cell with its n.

An LLM is compared with people's labels. A person is compared with the other people who labelled the same tasks: where
nobody else did, nothing is known of that person.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mollm.metrics import clopper_pearson, weighted_share
from mollm_backend.store import Store, audits, labels
from mollm_backend.store.decisions import Decision
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import Project

PEOPLE = 20  # shown, those with the most labels: a map of more rows is not read at a glance
Cell = dict[str, Any]  # n, value, low, high; value None where n is 0


def of_project(store: Store, project: Project, figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A map a decision, JSON-able: `labels` (C), and `rows` of `who`, `kind` (llm or person) and C `cells`.

    `figures` are those of `mollm_backend.work.figures`. `left_out`: people who have no row.
    """
    usable = audits.usable(store, project.id)
    return [_map(decision, figures["decisions"][decision.key], usable) for decision in project.decisions]


def _map(decision: Decision, figures: Mapping[str, Any], usable: Sequence[Annotation]) -> dict[str, Any]:
    names = decision.labels.names
    llms = figures["agreement"]["llms"]
    rows = [{"who": name, "kind": "llm", "cells": _of_llm(found["confusion"])} for name, found in llms.items()]
    mine = [row for row in labels.counted(usable, decision.key) if row.label in names]
    users = sorted({row.user_id for row in mine}, key=lambda user: -sum(row.user_id == user for row in mine))
    if len(users) > 1:
        cells = _of_people(mine, names)
        rows += [{"who": f"person {user}", "kind": "person", "cells": cells[user]} for user in users[:PEOPLE]]
    shown = [decision.labels.text_of(c) for c in range(decision.labels.C)]
    return {"decision": decision.name, "key": decision.key, "labels": shown, "rows": rows,
            "left_out": max(0, len(users) - PEOPLE)}  # fmt: skip


def _of_llm(confusion: Sequence[Sequence[int]]) -> list[Cell]:
    """(C,) of the labels that people gave in each class, the share on which the LLM said it too."""
    return [_cell(row[c], sum(row)) for c, row in enumerate(confusion)]


def _cell(hits: int, n: int) -> Cell:
    if not n:
        return {"n": 0, "value": None, "low": None, "high": None}
    found = clopper_pearson(hits / n, n)
    return {"n": n, "value": found.value, "low": found.low, "high": found.high}


def _of_people(rows: Sequence[Annotation], names: Sequence[str]) -> dict[int, list[Cell]]:
    """By person (C,) cells: of the others' labels in each class, on tasks that this person labelled, the share that is
    the same. A task counts as much as the share of its others who said the class."""
    of_task: dict[int, list[Annotation]] = {}
    for row in rows:
        of_task.setdefault(row.task_id, []).append(row)
    seen: dict[int, dict[str, list[tuple[float, float]]]] = {row.user_id: {} for row in rows}
    for group in of_task.values():
        for row in group if len(group) > 1 else []:
            others = [other.label or "" for other in group if other is not row]
            for label in sorted(set(others)):
                share = others.count(label) / len(others)
                seen[row.user_id].setdefault(label, []).append((float(row.label == label), share))
    return {user: [_shared(found.get(name, [])) for name in names] for user, found in seen.items()}


def _shared(pairs: Sequence[tuple[float, float]]) -> Cell:
    if not pairs:
        return _cell(0, 0)
    same, weight = np.array(pairs).T
    found = weighted_share(same, weight)
    return {"n": len(pairs), "value": found.value, "low": found.low, "high": found.high}
