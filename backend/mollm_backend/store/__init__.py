"""The store: what is known, in SQLite (WAL) or PostgreSQL. The truth about what is missing is here, never in a queue.

Each module holds the functions over one part of the tables; a `Store` is only the open database.
"""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql, sqlite

from mollm.errors import StoreError

__all__ = ["BLOCK", "CHUNK", "Store", "among", "in_chunks", "now", "put"]

CHUNK = 500  # rows, or ids, of one statement: databases bind only so many values
# Rows of one transaction. Text keys come in random order, so each transaction writes nearly every page of their index:
# 100,000 tasks took 8 s in transactions of 500 rows and 3 s in such.
BLOCK = 10_000
Row = TypeVar("Row")


def now() -> str:
    """The time, UTC, ISO 8601: sorts as text."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


def in_chunks(rows: Iterable[Row], size: int = CHUNK) -> Iterator[list[Row]]:
    """The rows in lists of at most `size`."""
    pending = iter(rows)
    while chunk := list(islice(pending, size)):
        yield chunk


def among(column: sa.ColumnElement[int], ids: Sequence[int] | None) -> list[sa.ColumnElement[bool]]:
    """The conditions, one a statement, that a column is one of the ids (None: any)."""
    return [sa.true()] if ids is None else [column.in_(chunk) for chunk in in_chunks(ids)]


def put(connection: sa.Connection, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Insert rows, each in place of the one with its primary key where there is one."""
    make: Callable[[sa.Table], postgresql.Insert | sqlite.Insert]
    make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
    insert = make(table)
    fresh = {column.name: insert.excluded[column.name] for column in table.columns if not column.primary_key}
    key = list(table.primary_key.columns)
    connection.execute(insert.on_conflict_do_update(index_elements=key, set_=fresh), rows)


class Store:
    """An open, migrated database. `url` is an SQLAlchemy URL; a SQLite file's directory must exist."""

    def __init__(self, url: str, *, migrate: bool = True) -> None:
        self.url = sa.make_url(url)
        connect_args = {"timeout": 30.0} if self._is_sqlite else {}
        self.engine = sa.create_engine(self.url, connect_args=connect_args, pool_pre_ping=not self._is_sqlite)
        if self._is_sqlite:
            sa.event.listen(self.engine, "connect", _tune_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)
        if migrate:
            self._migrate()

    @property
    def _is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        with self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[sa.Connection]:
        """One transaction: all or nothing, also under kill -9."""
        try:
            # The write lock is taken first: in SQLite a read that turns into a write cannot wait and would fail.
            with self.engine.execution_options(sqlite_begin="BEGIN IMMEDIATE").begin() as connection:
                yield connection
        except sa.exc.OperationalError as error:
            raise StoreError(f"The store at {self.url.render_as_string()} refused: {error.orig}.") from error

    def renew_statistics(self, table: sa.Table) -> None:
        """After a bulk write: until PostgreSQL has counted, it compares each row of a join with each other (10,000
        tasks with 10,000 predictions: 12 s). SQLite does not plan by counts."""
        if not self._is_sqlite:
            with self.write() as connection:
                connection.execute(sa.text(f"ANALYZE {table.name}"))

    def close(self) -> None:
        self.engine.dispose()

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        newest = ScriptDirectory.from_config(config).get_current_head()
        try:
            with self.engine.connect() as connection:
                current = MigrationContext.configure(connection).get_current_revision()
                if current == newest:
                    return
                if current is not None:
                    self._back_up(current)
                connection.rollback()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()
        except sa.exc.SQLAlchemyError as error:
            raise StoreError(
                f"The store at {self.url.render_as_string()} cannot be opened or migrated: {error}. "
                "If the file is damaged, put back the newest `.backup` beside it."
            ) from error

    def _back_up(self, revision: str) -> None:
        if not self._is_sqlite or not self.url.database or self.url.database == ":memory:":
            return
        path = Path(self.url.database)
        part = path.with_name(f".{path.name}.part")
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(part)) as target:
            source.backup(target)
        shutil.move(part, path.with_name(f"{path.name}.{revision}.backup"))


def _tune_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver's own implicit BEGIN would hide ours
    # NORMAL survives a killed process (what we promise); only a power cut may lose the last commits.
    # 64 MB of pages: the index of a million text keys, which a bulk write goes all over.
    for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "busy_timeout=30000", "cache_size=-65536"):
        connection.execute(f"PRAGMA {pragma}")


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))
