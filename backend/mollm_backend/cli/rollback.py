"""`mollm rollback`: publish an earlier version again, and hold it."""

from __future__ import annotations

from typing import Annotated

import typer

from mollm_backend.cli.terminal import ProjectId, a_queue, open_store, say
from mollm_backend.jobs import acting
from mollm_backend.work import queues
from mollm_backend.work.actions import COMMAND_LINE, Asked


def rollback(
    project: ProjectId,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A version that `mollm versions` lists.")],
    until_next: Annotated[
        bool, typer.Option("--until-next", help="Hold it only until the next version that passes the gate.")
    ] = False,
) -> None:
    """Publish an earlier version again and pin the project to it: its pre-annotations and its batch come back.

    Nothing is published over it until `mollm unpin`. Refits go on, and their versions stay candidates.

    Example: `mollm rollback 12 mollm-3-7070e0c6`.
    """
    loaded, store = open_store()
    asked = Asked(project, "rollback", version, COMMAND_LINE)
    with a_queue():
        for line in acting.roll_back(store, queues.connect(loaded.queue_url), asked, until_next=until_next):
            say(line)
