"""A real PostgreSQL for the tests: Debian's own, started once a run on a Unix socket; each test has its own database.

`MOLLM_TEST_POSTGRES` names a server of yours instead (`make test-postgres POSTGRES=URL`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
import sqlalchemy as sa

from mollm_backend.store import Store
from mollm_backend.supervisor import postgresql

# Nothing has to survive a power cut, and no test waits for a disk.
FAST = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=200")


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


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """The server of this run; without one the test is skipped, in CI it fails."""
    url = os.environ.get("MOLLM_TEST_POSTGRES", "")
    if url:
        yield from _opened(url)
        return
    where = postgresql.programs()
    if where is None:
        from tests.conftest import absent

        absent("PostgreSQL is not installed: apt-get install postgresql, or name a server in MOLLM_TEST_POSTGRES")
    with postgresql.server(where, FAST) as running:
        yield from _opened(running.url)


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
