"""`mollm next-batch`: the tasks that people see next."""

from __future__ import annotations

import json
from dataclasses import asdict

from rich.table import Table

from mollm_backend.cli.terminal import AsJson, ProjectId, console, open_store, say
from mollm_backend.labelstudio import publish
from mollm_backend.store import batches, projects


def next_batch(project: ProjectId, json_output: AsJson = False) -> None:
    """Show the tasks that people see next, in order, each with its reason."""
    _loaded, store = open_store()
    found = projects.get(store, project)
    batch = found.batch_version or ""
    rows = publish.as_people_see(store, found, batches.waiting(store, project, batch))
    if json_output:
        print(json.dumps([{"place": place} | asdict(row) for place, row in enumerate(rows, 1)]))
        return
    if found.pin:
        say(f"The project is {found.pin}.")
    if not rows:
        why = "everything in it is labelled" if found.batch_version else "no version is published yet"
        console.print(f"No batch is open: {why}. `mollm doctor {project}` says what it waits for.", soft_wrap=True)
        return
    table = Table("place", "task", "pre-annotation", "confidence", "why", title=found.batch_version)
    for place, row in enumerate(rows, 1):
        shown = ("-", "-") if row.blind else (row.label, f"{row.confidence:.2f}")
        table.add_row(str(place), str(row.task_id), *shown, row.reason)
    console.print(table)
