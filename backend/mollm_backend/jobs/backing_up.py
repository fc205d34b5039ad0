"""Backups on a schedule: made while all runs, read again, and a few kept."""

from __future__ import annotations

import time
from pathlib import Path

import structlog

from mollm_backend.jobs.runtime import Runtime
from mollm_backend.store import backup, sqlite_file

log = structlog.get_logger()

DAY = 24.0  # hours between two, where nothing else is set


def due(runtime: Runtime) -> bool:
    """Whether the newest backup is too old. A server's own backups are its keeper's, unless hours are set."""
    hours = runtime.settings.backup_hours
    if hours is None:
        hours = 0.0 if sqlite_file.path_of(runtime.store.url) is None else DAY
    if not hours:
        return False
    newest = max((path.stat().st_mtime for path in backup.kept(_where(runtime))), default=0.0)
    return time.time() - newest > hours * 3600


def back_up(runtime: Runtime) -> None:
    """Make one, read it again, and delete the oldest. Raises StoreError, OSError."""
    where = _where(runtime)
    target = where / backup.name()
    try:
        made = backup.make(runtime.store, runtime.version_files, target)
        backup.check(target)
    except Exception:
        target.unlink(missing_ok=True)
        raise
    backup.prune(where, runtime.settings.backups_kept)
    log.info("backup made and read again", file=str(target), projects=made.projects)


def _where(runtime: Runtime) -> Path:
    return backup.directory(runtime.store, runtime.settings.shared_dir)
