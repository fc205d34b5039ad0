"""A real PostgreSQL for the tests: Debian's own, started once a run on a Unix socket; each test has its own database.

`MOLLM_TEST_POSTGRES` names a server of yours instead (`make test-postgres POSTGRES=URL`).
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from mollm_backend.store import Store

# Nothing has to survive a power cut, and no test waits for a disk.
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "listen_addresses=", "max_connections=200")


class Postgres:
    """A running server, by the URL of a database in which others may be made."""

    def __init__(self, url: str) -> None:
        self.url = sa.make_url(url)
        self.admin = sa.create_engine(self.url, isolation_level="AUTOCOMMIT")
        self._template = ""

    @contextmanager
    def database(self, *, migrated: bool = False) -> Iterator[str]:
        """The URL of a database of its own: empty, or with the tables of a new store."""
        if migrated and not self._template:
            self._template = self._made()
            Store(self._url(self._template)).close()
        name = self._made(self._template if migrated else "")
        try:
            yield self._url(name)
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def close(self) -> None:
        if self._template:
            self._run(f"DROP DATABASE {self._template} WITH (FORCE)")
        self.admin.dispose()

    def _made(self, template: str = "") -> str:
        name = f"mollm_test_{uuid4().hex[:12]}"
        self._run(f"CREATE DATABASE {name}" + (f" TEMPLATE {template}" if template else ""))
        return name

    def _url(self, name: str) -> str:
        return self.url.set(database=name).render_as_string(hide_password=False)

    def _run(self, statement: str) -> None:
        with self.admin.connect() as connection:
            connection.execute(sa.text(statement))


def programs() -> Path | None:
    """Where the newest installed PostgreSQL has its programs."""
    found = Path("/usr/lib/postgresql").glob("*/bin/initdb")
    return max((path.parent for path in found), key=lambda path: float(path.parent.name), default=None)


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The server of this run; without one the test is skipped, in CI it fails."""
    url = os.environ.get("MOLLM_TEST_POSTGRES", "")
    if url:
        yield from _opened(url)
        return
    where = programs()
    if where is None:
        from tests.conftest import absent

        absent("PostgreSQL is not installed: apt-get install postgresql, or name a server in MOLLM_TEST_POSTGRES")
    with server(where) as url:
        yield from _opened(url)


@pytest.fixture
def database_url(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """Of a migrated store on PostgreSQL where a test asks for it, for commands too; else "": SQLite in the home."""
    if getattr(request, "param", "sqlite") == "sqlite":
        monkeypatch.delenv("DATABASE_URL", raising=False)
        yield ""
        return
    with request.getfixturevalue("postgres").database(migrated=True) as url:
        monkeypatch.setenv("DATABASE_URL", url)
        yield url


def _opened(url: str) -> Iterator[Postgres]:
    opened = Postgres(url)
    yield opened
    opened.close()


@contextmanager
def server(where: Path) -> Iterator[str]:
    """Start a server in a directory of its own, and end it. PostgreSQL does not run as root: then another user does."""
    directory = Path(tempfile.mkdtemp(prefix="mollm-pg-"))
    runs_as: dict[str, Any] = {}
    if os.geteuid() == 0:
        user = next(one for one in pwd.getpwall() if one.pw_name in ("postgres", "nobody"))
        shutil.chown(directory, user.pw_uid, user.pw_gid)
        runs_as = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
    data, url = directory / "data", f"postgresql+psycopg://mollm@/postgres?host={directory}"
    made = ["initdb", "-D", data, "-U", "mollm", "-A", "trust", "-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
    with (directory / "log").open("wb") as log:
        output: dict[str, Any] = {"stdout": log, "stderr": log, "cwd": directory} | runs_as
        subprocess.run([where / made[0], *made[1:]], check=True, **output)
        options = [word for option in FAST for word in ("-c", option)]
        process = subprocess.Popen([where / "postgres", "-D", data, "-k", directory, *options], **output)
        try:
            _wait(process, url, directory / "log")
            yield url
        finally:
            process.terminate()
            process.wait(60)
            shutil.rmtree(directory)


def _wait(process: subprocess.Popen[bytes], url: str, log: Path, seconds: float = 60.0) -> None:
    engine, deadline = sa.create_engine(url), time.monotonic() + seconds
    while True:
        try:
            with engine.connect():
                break
        except sa.exc.OperationalError:
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.05)
    engine.dispose()
