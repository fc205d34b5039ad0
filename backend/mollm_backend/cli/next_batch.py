"""`mollm next-batch`: the tasks that people see next."""

from __future__ import annotations

import json

from rich.table import Table

from mollm_backend.cli.terminal import AsJson, ProjectId, console, open_store
from mollm_backend.store import batches, projects


def next_batch(project: ProjectId, json_output: AsJson = False) -> None:
    """Show the tasks that people see next, in order, each with its reason."""
    _loaded, store = open_store()
    found = projects.get(store, project)
    batch = found.batch_version or ""
    still_open = batches.open_tasks(store, project, batch)
    rows = [row for row in batches.entries(store, project, batch) if row.task_id in still_open]
    if json_output:
        print(json.dumps([{name: getattr(row, name) for name in row.__slots__} for row in rows]))
        return
    if not rows:
        why = "everything in it is labelled" if found.batch_version else "no version is published yet"
        console.print(f"No batch is open: {why}. `mollm doctor {project}` says what it waits for.", soft_wrap=True)
        return
    table = Table("task", "pre-annotation", "confidence", "why", title=found.batch_version)
    for row in rows:
        table.add_row(str(row.task_id), row.label, f"{row.confidence:.2f}", row.reason)
    console.print(table)
