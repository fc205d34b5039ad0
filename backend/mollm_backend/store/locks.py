"""Locks that one process holds at a time, on whatever host, and that its death frees at once.

In PostgreSQL they are advisory locks of a connection of their own, and beside a SQLite file (which is opened on one
host alone) locked files: no row stays behind that somebody would have to clear away.
"""

from __future__ import annotations

import fcntl
import hashlib
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import sqlalchemy as sa

from mollm_backend.store import Store, sqlite_file

# Seconds: of a host that lost its power, the server learns so after 10 + 3 * 5. Others take over within 30.
_KEEPALIVES = {"tcp_keepalives_idle": 10, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3}
_FREE = sa.text("SELECT key FROM unnest(CAST(:keys AS bigint[])) AS key WHERE pg_try_advisory_lock(key)")
_LOOK = 0.1  # seconds between two looks whether a lock is free


@contextmanager
def held(store: Store, name: str) -> Iterator[bool]:
    """Hold the lock of this name in the block; False where another process, or another block here, holds it."""
    with those_free(store, [name]) as mine:
        yield bool(mine)


@contextmanager
def those_free(store: Store, names: Sequence[str], patience: float = 0.0) -> Iterator[list[str]]:
    """Hold in the block those of the locks that nobody else holds; where there are none, wait so many seconds for one.

    Names are those of files: letters, digits, `_` and `-`.
    """
    here = _advisory if store.url.get_backend_name() != "sqlite" else _files
    with here(store, names, time.monotonic() + patience) as mine:
        yield mine


@contextmanager
def _files(store: Store, names: Sequence[str], until: float) -> Iterator[list[str]]:
    path = sqlite_file.path_of(store.url)
    if path is None:  # in memory: nobody else has it
        yield list(names)
        return
    directory = path.parent / "locks"
    directory.mkdir(exist_ok=True, mode=0o700)
    with ExitStack() as stack:
        files = {name: stack.enter_context((directory / f"{name}.lock").open("w")) for name in names}
        while not (mine := [name for name, file in files.items() if _taken(file.fileno())]):
            if time.monotonic() >= until:
                break
            time.sleep(_LOOK)
        yield mine


def _taken(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _advisory(store: Store, names: Sequence[str], until: float) -> Iterator[list[str]]:
    keys = {
        int.from_bytes(hashlib.sha256(f"mollm {name}".encode()).digest()[:8], "big", signed=True): name
        for name in names
    }
    with store.session() as connection:
        for setting, value in _KEEPALIVES.items():
            connection.execute(sa.text(f"SET {setting} = {value}"))
        while not (mine := list(connection.execute(_FREE, {"keys": list(keys)}).scalars())):
            if time.monotonic() >= until:
                break
            time.sleep(_LOOK)
        yield [keys[key] for key in mine]
