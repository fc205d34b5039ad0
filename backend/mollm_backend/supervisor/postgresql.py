"""A PostgreSQL server of our own for a while, where its programs are installed: for benches and tests."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from mollm.errors import ConfigError

INSTALLED = Path("/usr/lib/postgresql")  # Debian's and Ubuntu's place, a directory for each version
STARTS_WITHIN = 60.0  # seconds; it takes one or two on an idle machine


def programs() -> Path | None:
    """Where the newest installed PostgreSQL has its programs; None where there is none."""
    found = INSTALLED.glob("*/bin/initdb")
    newest = max((path.parent for path in found), key=lambda path: float(path.parent.name), default=None)
    on_path = shutil.which("initdb")
    return newest or (Path(on_path).resolve().parent if on_path else None)


class Server:
    """A server in a directory of its own, on a Unix socket alone. `url`: of a database in which others may be made.

    PostgreSQL does not run as root: then another user does.
    """

    def __init__(self, where: Path, directory: Path, options: Sequence[str]) -> None:
        self._directory, self._data = directory, directory / "data"
        self._runs_as: dict[str, Any] = {}
        if os.geteuid() == 0:
            user = next(one for one in pwd.getpwall() if one.pw_name in ("postgres", "nobody"))
            shutil.chown(directory, user.pw_uid, user.pw_gid)
            self._runs_as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        self.url = f"postgresql+psycopg://mollm@/postgres?host={directory}"
        given = [word for option in ("listen_addresses=", *options) for word in ("-c", option)]
        self._command = [str(where / "postgres"), "-D", str(self._data), "-k", str(directory), *given]
        made = ["-D", str(self._data), "-U", "mollm", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
        with (directory / "log").open("wb") as log:
            subprocess.run([str(where / "initdb"), *made], check=True, stdout=log, stderr=log, **self._as())
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers. Raises ConfigError where it does not."""
        with (self._directory / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log, **self._as())
        engine, deadline = sa.create_engine(self.url), time.monotonic() + STARTS_WITHIN
        while True:
            try:
                with engine.connect():
                    break
            except sa.exc.OperationalError:
                if self._process.poll() is not None or time.monotonic() > deadline:
                    said = (self._directory / "log").read_text()[-500:]
                    raise ConfigError(f"PostgreSQL does not start: {said}") from None
                time.sleep(0.05)
        engine.dispose()

    def stop(self) -> None:
        """End it; what is under way is broken off."""
        self._process.send_signal(signal.SIGINT)  # its word for "at once"
        self._process.wait(60)

    def _as(self) -> dict[str, Any]:
        return {"cwd": self._directory} | self._runs_as


@contextmanager
def server(where: Path, options: Sequence[str] = ()) -> Iterator[Server]:
    """Run a server and remove it at the end. `options`: as `name=value`. Raises ConfigError where it does not start."""
    directory = Path(tempfile.mkdtemp(prefix="mollm-pg-"))
    try:
        running = Server(where, directory, options)
        try:
            yield running
        finally:
            running.stop()
    finally:
        shutil.rmtree(directory)
