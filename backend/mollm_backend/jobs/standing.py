"""How right a project is, and what it takes to finish it: noted for the pages, and told by the report."""

from __future__ import annotations

from typing import Any

from mollm_backend.jobs import audit_report, certified, raters, rest
from mollm_backend.store import Store, audits, notes, projects, versions
from mollm_backend.store.projects import Project
from mollm_backend.work import figures, finishing

SHOWN = 20  # versions: as many as one sees at a glance


def of_project(store: Store, project: Project, batch_size: int) -> dict[str, Any]:
    """JSON-able: `audit`, `certificate`, `figures` and `finish` (None where there is none); `rest` by version, what the
    last decided audit says (`audited`), `raters`, `acceptance`; and `batch_size`, how many tasks a batch has."""
    goal = finishing.goal_of(project, batch_size)
    found, standing = figures.of_project(store, project), finishing.of(store, project, goal)
    shown = [row.id for row in versions.brief(store, project.id, SHOWN)]
    return {
        "audit": audit_report.state(store, project), "certificate": certified.state(store, project),
        "figures": found,
        "finish": None if standing.finish is None else standing.as_json() | {
            "line": standing.line(), "command": standing.command()},
        "rest": rest.measured(store, project.id, shown), "audited": rest.of_audit(store, project),
        "raters": raters.of_project(store, project, found), "acceptance": rest.acceptance(store, project),
        "batch_size": goal.batch,
    }  # fmt: skip


def lines(found: dict[str, Any]) -> list[str]:
    """What it says of audits, certificates, agreement and the plan, for people."""
    parts = [line for name in ("audit", "certificate", "figures") for line in (found.get(name) or {}).get("lines", [])]
    finish = (found.get("finish") or {}).get("line")
    return [*parts, *([finish] if finish else [])]


def note(store: Store, project_id: int, batch_size: int) -> None:
    """Note it for the pages; called where something of it has changed. How far an open audit is, a page counts."""
    found = of_project(store, projects.get(store, project_id), batch_size)
    if found["audit"] and found["audit"].get("status") == audits.OPEN:
        found["audit"] = None
    projects.change(store, project_id, trust={"lines": lines(found)})
    notes.write(store, project_id, **{notes.STANDING: found})
