"""One `mollm up` a home: an exclusive lock that the system itself lets go of when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mollm.errors import MollmError


class HomeInUse(MollmError):
    """Another `mollm up` runs in the same home."""


@contextmanager
def home_lock(home: Path) -> Iterator[None]:
    """Hold `home/run/lock`. Raises HomeInUse, with the other's pid, where it is held."""
    directory = home / "run"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Opened without truncation: the loser of the race must not wipe the winner's pid.
    with (directory / "lock").open("a+", encoding="ascii") as handle:
        os.set_inheritable(handle.fileno(), False)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            raise HomeInUse(
                f"`mollm up` already runs in {home} (pid {handle.read().strip() or 'unknown'}). "
                "End it first, or set MOLLM_HOME to another directory."
            ) from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
