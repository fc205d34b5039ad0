"""`mollm backup`: everything in one file, while all runs."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mollm.errors import InputError
from mollm_backend.cli.terminal import AsJson, open_store, say
from mollm_backend.store import backup as backups
from mollm_backend.store.version_files import VersionFiles


def backup(
    file: Annotated[
        Path | None, typer.Argument(metavar="[FILE]", help="The new file; default: one beside the workers' own.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write the store and the files of its versions into one file, as of one moment, while everything runs.

    Each file in it is there with its hash, and the whole is read again at the end. The secrets and the models are not
    in it. Workers make such a backup of a SQLite store every day (MOLLM_BACKUP_HOURS) and keep the last seven.
    """
    loaded, store = open_store()
    target = file or backups.directory(store, loaded.shared_dir) / backups.name()
    if target.exists():
        raise InputError(f"{target} is there already: give another name, or delete it.")
    made = backups.make(store, VersionFiles(loaded.versions_dir, loaded.shared_url), target)
    backups.check(target)
    if as_json:
        say(json.dumps({"file": str(target), "bytes": target.stat().st_size} | asdict(made)))
        return
    say(f"{target}: {made.projects} projects, {len(made.files)} files, {target.stat().st_size / 2**20:.1f} MB")
    for name in made.missing:
        say(f"the files of version {name} were not there; what it has predicted is in the backup")
