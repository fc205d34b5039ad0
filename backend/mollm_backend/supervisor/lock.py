"""Allow one `mollm up` for each home: an exclusive lock that the system releases when its holder dies."""

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
    """Hold `home/run/lock`. Raises HomeInUse, with the holder's pid, if another process holds it."""
    directory = home / "run"
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    # Mode "a+" keeps the content: a process that does not get the lock must not delete the holder's pid.
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
