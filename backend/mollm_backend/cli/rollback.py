"""`mollm rollback`: publish an earlier version again, and hold it."""

from __future__ import annotations

from typing import Annotated

import typer

from mollm.errors import InputError
from mollm_backend.cli.terminal import ProjectId, a_queue, open_store, require_version, say
from mollm_backend.store import batches, events, pins, projects
from mollm_backend.work import queues


def rollback(
    project: ProjectId,
    version: Annotated[str, typer.Argument(help="A version that `mollm versions` lists.")],
    until_next: Annotated[
        bool, typer.Option("--until-next", help="Hold it only until the next version that passes the gate.")
    ] = False,
) -> None:
    """Publish an earlier version again and pin the project to it: its pre-annotations and its batch come back.

    Nothing is published over it until `mollm unpin`. Refits go on, and their versions stay candidates.
    """
    loaded, store = open_store()
    require_version(store, project, version)
    batch = batches.newest(store, project, version)
    if batch is None:
        raise InputError(f"{version} has no batch, because the gate refused it: there is nothing to go back to.")
    with a_queue():
        queues.connect(loaded.queue_url).ping()
    pins.pin(store, project, version, batch, until_next=until_next)
    events.add(store, "done", f"rolled back to {version}", project)
    queues.enqueue(queues.connect(loaded.queue_url), "publish", "publish", project)
    say(f"Rolled back to {version}; Label Studio follows in seconds.")
    say(f"The project is {projects.get(store, project).pin}.")
