"""The file of a SQLite store: who may read it, and what to do where it is damaged or the disk is full."""

from __future__ import annotations

import contextlib
import sqlite3
import stat
from pathlib import Path

import sqlalchemy as sa

BACKUPS = "backups"  # the directory beside the file with the backups that workers make; see `mollm_backend.backup`


def path_of(url: sa.URL) -> Path | None:
    """The file of a SQLite URL; None for a server, or for a database in memory."""
    if url.get_backend_name() != "sqlite" or url.database in (None, "", ":memory:"):
        return None
    return Path(str(url.database))


def keep_private(url: sa.URL) -> None:
    """Make the file readable for its owner alone; its WAL takes the same mode. A file that only a group may read too
    was made so on purpose and stays so."""
    path = path_of(url)
    if path is None:
        return
    with contextlib.suppress(OSError):  # not ours, or no directory: opening it says what is wrong
        path.touch(mode=0o600)
        for part in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            if part.exists() and part.stat().st_mode & stat.S_IRWXO:
                part.chmod(0o600)


def damaged(error: sa.exc.DBAPIError) -> bool:
    """Whether the file holds no database, or only a part of one."""
    return _code(error).startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB"))


def full(error: sa.exc.DBAPIError) -> str:
    """What to do about a disk that takes no more; "" where it is not that."""
    # On a full disk the first to fail may be the log's index, which SQLite calls an input/output error.
    if _code(error).startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return ": free some space on its disk; what was being written is written again"
    if _code(error).startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN")):
        return ": make the file and its directory writable"
    return ""


def remedy(url: sa.URL, why: str) -> str:
    """What is said of a damaged file: where the newest backup lies, if there is one."""
    path = path_of(url)
    assert path is not None
    newest = newest_backup(path)
    put_back = f"stop all and put the newest backup back: `mollm restore {newest} --force`"
    if newest is None:
        put_back = f"there is no backup in {path.parent / BACKUPS}: move the file away, and connect the projects anew"
    return f"The store's file {path} is damaged ({why}): {put_back}."


def newest_backup(path: Path) -> Path | None:
    """The newest backup of this store: of the workers' own, else the copy that the last upgrade made."""
    made = sorted((path.parent / BACKUPS).glob("mollm-*.tar"))
    made = made or sorted(path.parent.glob(f"{path.name}.*.backup"))
    return made[-1] if made else None


def _code(error: sa.exc.DBAPIError) -> str:
    return getattr(error.orig, "sqlite_errorname", "") if isinstance(error.orig, sqlite3.Error) else ""
