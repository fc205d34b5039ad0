"""`mollm versions`: what has been published, and how good it was."""

from __future__ import annotations

import json
from typing import Any

from rich.table import Column, Table

from mollm_backend.cli.terminal import SCORES, AsJson, ProjectId, console, open_store, say
from mollm_backend.store import projects
from mollm_backend.store import versions as stored


def versions(project: ProjectId, json_output: AsJson = False) -> None:
    """List a project's versions, newest first; the published one is marked."""
    _loaded, store = open_store()
    found = projects.get(store, project)
    rows = stored.every(store, project)
    if json_output:
        shown = [{"id": row.id, "status": row.status, "human_labels": row.human_labels, "created_at": row.created_at,
                  "scores": row.facts.get("scores", {}), "accuracy": row.accuracy,
                  "pinned_at": found.pinned_at if row.id == found.published_version else ""}
                 for row in rows]  # fmt: skip
        print(json.dumps(shown))
        return
    if not rows:
        console.print(f"No version yet: `mollm doctor {project}` says what it waits for.")
        return
    names = ("version", "status", "labels", "right [95 %]", *SCORES, "made (UTC)")
    whole = (Column(name, no_wrap=True) for name in names)
    table = Table(*whole, box=None, padding=(0, 1, 0, 0))  # fits 80 columns: what cannot be read cannot be copied
    for row in rows:
        scores = row.facts.get("scores", {})
        cells = [f"{scores[key]:.3f}" if key in scores else "" for key in SCORES.values()]
        made = row.created_at[5:16].replace("T", " ")
        table.add_row(row.id, row.status, str(row.human_labels), _right(row.accuracy), *cells, made)
    console.print(table)
    say("right, log-loss, ECE: on the labelled tasks, cross-fitted. They were chosen for being hard: the rest differs.")
    say(f"How good it is on the rest: `mollm audit {project} --labels 300`.")
    if found.pin:
        say(f"The project is {found.pin}.")
    else:
        say(f"Back to one of them, and hold it: `mollm rollback {project} VERSION`.")


def _right(accuracy: dict[str, Any]) -> str:
    """The accuracy on the labelled tasks as it fits into a column."""
    if "labelled" not in accuracy:
        return ""
    found = accuracy["labelled"]
    interval = "" if found["low"] is None else f" [{100 * found['low']:.0f}, {100 * found['high']:.0f}]"
    return f"{found['value']:.0%}{interval}"
