"""Locks that one process holds at a time, on whatever host, and that its death frees at once.

In PostgreSQL they are advisory locks of a connection of their own, and beside a SQLite file (which is opened on one
host alone) locked files: no row stays behind that somebody would have to clear away.
"""

from __future__ import annotations

import fcntl
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from mollm_backend.store import Store, sqlite_file

# Seconds: of a host that lost its power, the server learns so after 20 + 3 * 5.
_KEEPALIVES = {"tcp_keepalives_idle": 20, "tcp_keepalives_interval": 5, "tcp_keepalives_count": 3}


@contextmanager
def held(store: Store, name: str) -> Iterator[bool]:
    """Hold the lock of this name in the block; False where another process, or another block here, holds it."""
    if store.url.get_backend_name() != "sqlite":
        with _advisory(store, name) as mine:
            yield mine
        return
    path = sqlite_file.path_of(store.url)
    if path is None:  # in memory: nobody else has it
        yield True
        return
    directory = path.parent / "locks"
    directory.mkdir(exist_ok=True, mode=0o700)
    with (directory / f"{name}.lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


@contextmanager
def _advisory(store: Store, name: str) -> Iterator[bool]:
    key = int.from_bytes(hashlib.sha256(f"mollm {name}".encode()).digest()[:8], "big", signed=True)
    connection = store.engine.connect()
    try:
        for setting, value in _KEEPALIVES.items():
            connection.execute(sa.text(f"SET {setting} = {value}"))
        mine = connection.execute(sa.text("SELECT pg_try_advisory_lock(:key)"), {"key": key}).scalar_one()
        connection.commit()  # the lock is the session's; no transaction stays open for hours
        yield bool(mine)
    finally:
        connection.invalidate()  # the server frees the lock with the connection
        connection.close()
