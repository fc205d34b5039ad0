"""`mollm restore`: put a backup back."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import redis
import typer

from mollm.errors import InputError
from mollm_backend import settings
from mollm_backend.cli.terminal import say
from mollm_backend.settings import Settings
from mollm_backend.store import backup as backups
from mollm_backend.store.version_files import VersionFiles
from mollm_backend.supervisor.lock import home_lock
from mollm_backend.work import queues, workers


def restore(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What `mollm backup` or a worker wrote.")],
    force: Annotated[bool, typer.Option("--force", help="Replace a store that holds projects, or is damaged.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Read the backup and say whether it is whole.")] = False,
) -> None:
    """Put a backup in place of the store, into SQLite or PostgreSQL, whichever it came from; its hashes are checked.

    End `mollm up`, `mollm web` and all workers first. A SQLite file that was there is kept beside the new one. What
    people have done in Label Studio since the backup is read again at the next start.
    """
    if dry_run:
        made = backups.check(file)
        say(f"{file} is whole: made {made.made_at or 'by an upgrade'}, {len(made.files)} files")
        return
    loaded = settings.load()
    with nullcontext() if loaded.database_url else home_lock(loaded.home):
        _nobody_works(loaded)
        made = backups.restore(
            file, loaded.store_url, VersionFiles(loaded.versions_dir, loaded.shared_url), force=force
        )
    say(f"restored {file}, made {made.made_at or 'by an upgrade'}; start `mollm up`, or web and workers, again")


def _nobody_works(loaded: Settings) -> None:
    try:
        living = workers.every(queues.connect(loaded.queue_url))
    except redis.RedisError:
        return  # no queue: no worker
    if living:
        raise InputError(f"{len(living)} workers are running ({living[0]} ...): end them first.")
