"""`mollm worker`: one worker more, on this host or on another, for all work or for some of it."""

from __future__ import annotations

from typing import Annotated

import typer

from mollm_backend.cli.terminal import names_in


def worker(
    queues: Annotated[
        str, typer.Option(help="Only this work, separated by commas: train, publish, reconcile, annotate.")
    ] = "",
    annotators: Annotated[
        str, typer.Option(help="Only the readings of these annotators of the panel file, separated by commas.")
    ] = "",
) -> None:
    """Run a worker until SIGTERM or Ctrl-C; any number of them share the work, on any hosts.

    Other hosts need the same DATABASE_URL, REDIS_URL, LABEL_STUDIO_URL, LABEL_STUDIO_API_KEY and panel file. A GPU host
    can read for one LLM (`--queues annotate --annotators NAME`) while a light one does the rest.
    """
    from mollm_backend.jobs import worker as process

    process.main(names_in(queues), names_in(annotators))
