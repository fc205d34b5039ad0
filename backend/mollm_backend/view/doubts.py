"""The labels of people that the published version doubts, and that nobody has looked at since."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mollm_backend.store import Store, tasks
from mollm_backend.store.projects import Project
from mollm_backend.work import suspects

SHOWN = 10  # the most suspect ones; `mollm recheck` brings all of them back to people
TEXT = 300  # characters of a text: enough to see what it is about


def of_project(store: Store, project: Project, detail: Mapping[str, Any]) -> dict[str, Any]:
    """`known`: whether the version has looked for them; `count` of them, and the first ones as `rows`."""
    rows = suspects.undecided(store, project, detail)
    texts = tasks.some(store, project.id, [row.task for row in rows[:SHOWN]])
    shown = [asdict(row) | {"text": (texts[row.task].text or "")[:TEXT]} for row in rows[:SHOWN]]
    return {"known": suspects.known(detail), "count": len(rows), "rows": shown}
