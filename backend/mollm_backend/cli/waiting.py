"""Wait in the terminal for what a worker does, and show how far it is."""

from __future__ import annotations

import time
from collections.abc import Callable

import redis
import typer

from mollm.errors import InputError
from mollm_backend.cli.terminal import bar, console, say
from mollm_backend.store import Store
from mollm_backend.work import overview, progress, workers

EVERY = 0.5  # seconds between two looks: what runs is noted once a second


def wait(
    store: Store, connection: redis.Redis, project_id: int, over: Callable[[], bool], why: Callable[[], str]
) -> None:
    """Wait until `over`; meanwhile show what runs, or `why` nothing does. Ctrl-C ends the waiting alone.

    Raises InputError where no worker is there or a job fails: then it would not end by itself soon.
    """
    before, failed = "", overview.failure(store, connection, project_id)
    try:
        with console.status("") as spinner:
            while not over():
                line = _line(connection, project_id) or why()
                spinner.update(line)
                if line != before and not console.is_terminal and not progress.running(connection, project_id):
                    say(line)  # into a file: why it waits, but not each step
                before = line
                if not workers.every(connection):
                    raise InputError("No worker is running any more: `mollm up` starts one, and it goes on.")
                now = overview.failure(store, connection, project_id)
                if now and now != failed:
                    raise InputError(f"{now}. It is tried again by itself: `mollm status {project_id}`.")
                time.sleep(EVERY)
    except KeyboardInterrupt:
        say(f"It goes on without you: `mollm status {project_id}` says how far it is.")
        raise typer.Exit(130) from None
    except redis.RedisError:
        raise InputError("The queue does not answer any more: `mollm up` starts it, and it goes on.") from None


def _line(connection: redis.Redis, project_id: int) -> str:
    """What runs for the project, with a bar where its end is known."""
    shown = []
    for one in progress.running(connection, project_id):
        share = one.share()
        shown.append(one.line() if share is None else f"{bar(share)} {one.line()}")
    return "; ".join(shown)
