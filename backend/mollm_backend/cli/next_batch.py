"""`mollm next-batch`: the tasks that people see next."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from mollm_backend.cli.terminal import AsJson, ProjectId, console, open_store, say
from mollm_backend.labelstudio import publish
from mollm_backend.store import batches, projects


def next_batch(
    project: ProjectId,
    reserve: Annotated[bool, typer.Option("--all", help="Also the reserve, which stands behind the batch.")] = False,
    json_output: AsJson = False,
) -> None:
    """Show the tasks that people see next, in order, each with its reason.

    Example: `mollm next-batch 12`. With --json the reserve is always there.
    """
    loaded, store = open_store()
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
    size = int(found.options.get("batch_size", loaded.batch_size))
    title = f"{found.batch_version}: {min(size, len(rows))} tasks"
    table = Table("place", "task", "pre-annotation", "confidence", "why", title=title)
    for place, row in enumerate(rows if reserve else rows[:size], 1):
        shown = ("-", "-") if row.blind else (row.label, f"{row.confidence:.2f}")
        table.add_row(str(place), str(row.task_id), *shown, row.reason)
    console.print(table)
    if len(rows) > size and not reserve:
        say(f"{len(rows) - size} more stand behind them in reserve: `mollm next-batch {project} --all`.")
