"""`mollm versions`: what has been published, and how good it was."""

from __future__ import annotations

import json

from rich.table import Column, Table

from mollm_backend.cli.terminal import SCORES, AsJson, ProjectId, console, open_store
from mollm_backend.store import projects
from mollm_backend.store import versions as stored


def versions(project: ProjectId, json_output: AsJson = False) -> None:
    """List a project's versions, newest first; the published one is marked."""
    _loaded, store = open_store()
    projects.get(store, project)
    rows = stored.every(store, project)
    if json_output:
        shown = [{"id": row.id, "status": row.status, "human_labels": row.human_labels, "created_at": row.created_at,
                  "scores": row.facts.get("scores", {})} for row in rows]  # fmt: skip
        print(json.dumps(shown))
        return
    if not rows:
        console.print(f"No version yet: `mollm doctor {project}` says what it waits for.")
        return
    whole = (Column(name, no_wrap=True) for name in ("version", "status", "labels", *SCORES, "created (UTC)"))
    table = Table(*whole, box=None, padding=(0, 2, 0, 0))  # fits 80 columns: what cannot be read cannot be copied
    for row in rows:
        scores = row.facts.get("scores", {})
        cells = [f"{scores[key]:.3f}" if key in scores else "" for key in SCORES.values()]
        table.add_row(row.id, row.status, str(row.human_labels), *cells, row.created_at[5:16].replace("T", " "))
    console.print(table)
    console.print("Scores: cross-fitted on the human labels.")
    console.print(f"Back to one of them: `mollm rollback {project} VERSION`.")
