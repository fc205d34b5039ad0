"""How right a project is, and what it takes to finish it: noted for the page, and told by the report."""

from __future__ import annotations

from typing import Any

from mollm_backend.jobs import audit_report, certified
from mollm_backend.store import Store, audits, projects
from mollm_backend.store.projects import Project
from mollm_backend.work import figures, finishing


def of_project(store: Store, project: Project, batch_size: int) -> dict[str, Any]:
    """`audit`, `certificate`, `figures` and `finish`, JSON-able, None where there is none."""
    goal = finishing.goal_of(project, batch_size)
    return {
        "audit": audit_report.state(store, project), "certificate": certified.state(store, project),
        "figures": figures.of_project(store, project), "finish": finishing.of(store, project, goal).line(),
    }  # fmt: skip


def lines(found: dict[str, Any]) -> list[str]:
    """All of it, for people."""
    parts = [line for name in ("audit", "certificate", "figures") for line in (found.get(name) or {}).get("lines", [])]
    return [*parts, *([found["finish"]] if found.get("finish") else [])]


def note(store: Store, project_id: int, batch_size: int) -> None:
    """Note it for the page; called where something of it has changed. How far an open audit is, the page counts."""
    found = of_project(store, projects.get(store, project_id), batch_size)
    if found["audit"] and found["audit"].get("status") == audits.OPEN:
        found["audit"] = None
    projects.change(store, project_id, trust={"lines": lines(found)})
