"""`mollm rollback`: publish an earlier version again."""

from __future__ import annotations

from typing import Annotated

import typer

from mollm.errors import InputError
from mollm_backend.cli.terminal import ProjectId, a_queue, console, open_store, require_version
from mollm_backend.store import batches, events, projects, versions
from mollm_backend.work import queues


def rollback(
    project: ProjectId, version: Annotated[str, typer.Argument(help="A version that `mollm versions` lists.")]
) -> None:
    """Publish an earlier version again: its pre-annotations and its batch come back in Label Studio."""
    loaded, store = open_store()
    require_version(store, project, version)
    batch = batches.newest(store, project, version)
    if batch is None:
        raise InputError(f"{version} was never published, so there is no batch to go back to.")
    with a_queue():
        queues.connect(loaded.queue_url).ping()
    versions.publish(store, project, version)
    batches.mark_unpublished(store, project, batch)  # what Label Studio still holds of it, publishing asks there
    projects.change(store, project, batch_version=batch)
    events.add(store, "done", f"rolled back to {version}", project)
    queues.enqueue(queues.connect(loaded.queue_url), "publish", "publish", project)
    console.print(f"Rolled back to {version}; Label Studio follows in seconds.")
