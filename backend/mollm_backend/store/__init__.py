"""The store: what is known, in SQLite (WAL) or PostgreSQL. The truth about what is missing is here, never in a queue.

Each module holds the functions over one part of the tables; a `Store` is only the open database.
"""

from __future__ import annotations

import select
import shutil
import sqlite3
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from itertools import count, islice
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy.dialects import postgresql, sqlite

from mollm.errors import StoreError
from mollm_backend.store import sqlite_file

__all__ = ["BLOCK", "CHUNK", "Store", "StoreAway", "among", "in_chunks", "now", "put"]

CHUNK = 500  # rows, or ids, of one statement: databases bind only so many values
# Rows of one transaction. Text keys come in random order, so each transaction writes nearly every page of their index:
# 100,000 tasks took 8 s in transactions of 500 rows and 3 s in such.
BLOCK = 10_000
LOCK_SECONDS = 30.0  # for which a statement waits for another transaction; a bulk write takes seconds
ATTEMPTS = 4  # of a transaction, at least: a deadlock passes at once
_MIGRATING = 7_665_901  # any number that no other program of this database locks
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
    insert, key = make(table), list(table.primary_key.columns)
    fresh = {column.name: insert.excluded[column.name] for column in table.columns if not column.primary_key}
    connection.execute(insert.on_conflict_do_update(index_elements=key, set_=fresh), rows)


class StoreAway(StoreError):
    """The database is away, or busy: the same may succeed later."""


class Store:
    """An open, migrated database. `url` is an SQLAlchemy URL; a SQLite file's directory must exist.

    `patience`: for so many seconds a transaction waits for a database that is away, as while it starts again.
    """

    def __init__(self, url: str, *, migrate: bool = True, patience: float = 0.0) -> None:
        self.url, self.patience = sa.make_url(url), patience
        connect_args = {"timeout": LOCK_SECONDS} if self.is_sqlite else {"connect_timeout": 10}
        self.engine = sa.create_engine(self.url, connect_args=connect_args)
        if self.is_sqlite:
            sqlite_file.keep_private(self.url)
            sa.event.listen(self.engine, "connect", _tune_sqlite)
            sa.event.listen(self.engine, "begin", _begin_sqlite)
        else:
            sa.event.listen(self.engine, "connect", _tune_postgresql)
            sa.event.listen(self.engine, "checkout", _see_whether_open)
        weakref.finalize(self, self.engine.dispose)  # a command that ends gives its connections back
        if migrate:
            self.migrate()

    @property
    def is_sqlite(self) -> bool:
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def read(self) -> Iterator[sa.Connection]:
        """What is read in it is as of one moment in SQLite; in PostgreSQL each statement is, in one round trip.
        Raises StoreError."""
        with self._told(), _given_back(self._begun("BEGIN", alone=True)) as connection:
            yield connection

    @contextmanager
    def write(self, *, alone: bool = False) -> Iterator[sa.Connection]:
        """One transaction: all or nothing, also under kill -9. Raises StoreError; then nothing was written. `alone`: it
        is one statement alone, and in PostgreSQL one round trip."""
        # The write lock is taken first: in SQLite a read that turns into a write cannot wait and would fail.
        with self._told(), _given_back(self._begun("BEGIN IMMEDIATE", alone=alone)) as connection:
            yield connection
            connection.commit()

    @contextmanager
    def session(self) -> Iterator[sa.Connection]:
        """A connection to PostgreSQL that nobody else uses after it: what the server keeps for it ends with the block.
        Each statement is a transaction. Raises StoreError."""
        with self._told(), closing(self._begun("BEGIN", alone=True)) as connection:
            try:
                yield connection
            finally:
                connection.invalidate()

    def again(self, work: Callable[[sa.Connection, int], Row], *, alone: bool = False) -> Row:
        """A transaction that is tried again where what stopped it passes by itself: a lock, a lost connection.

        `work` gets the number of the attempt. After a connection was lost at the very end, the attempt before may
        have been kept: the work has to see that by itself. Raises StoreError when patience ends.
        """
        deadline = time.monotonic() + self.patience
        for attempt in count():
            try:
                with self.write(alone=alone) as connection:
                    return work(connection, attempt)
            except StoreAway:
                if attempt + 1 >= ATTEMPTS and time.monotonic() > deadline:
                    raise
                time.sleep(_pause(attempt))
        raise AssertionError  # the loop has no end

    def _begun(self, begin: str, *, alone: bool = False) -> sa.Connection:
        """A connection in a transaction; waits with patience for a database that is away. `alone`: in PostgreSQL,
        each statement is a transaction of its own."""
        options: dict[str, Any] = {"sqlite_begin": begin}
        if alone and not self.is_sqlite:
            options["isolation_level"] = "AUTOCOMMIT"
        deadline = time.monotonic() + self.patience
        for attempt in count():
            try:
                connection = self.engine.connect().execution_options(**options)
                try:
                    connection.begin()
                except BaseException:
                    connection.close()
                    raise
                return connection
            except sa.exc.DBAPIError as error:
                if not _passes(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_pause(attempt))
        raise AssertionError  # the loop has no end

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Says in words what the database refused."""
        try:
            yield
        except sa.exc.DatabaseError as error:
            if isinstance(error, sa.exc.IntegrityError | sa.exc.ProgrammingError | sa.exc.DataError):
                raise  # a mistake of ours
            where, why = self.url.render_as_string(), " ".join(str(error.orig).split()).rstrip(".?")
            if sqlite_file.damaged(error):
                raise StoreError(sqlite_file.remedy(self.url, why)) from error
            if not _passes(error):
                more = sqlite_file.full(error)
                raise StoreError(f"The store at {where} refused: {why}{more}.") from error
            after = f" for {self.patience:.0f} s" if self.patience else ""
            raise StoreAway(
                f"The store at {where} is away or busy{after}: {why}. Nothing of this was written; if that does not "
                "pass, see whether the database runs."
            ) from error

    def renew_statistics(self, table: sa.Table) -> None:
        """After a bulk write: until PostgreSQL has counted, it compares each row of a join with each other (10,000
        tasks with 10,000 predictions: 12 s). SQLite does not plan by counts."""
        if not self.is_sqlite:
            with self.write() as connection:
                connection.execute(sa.text(f"ANALYZE {table.name}"))

    def size(self) -> int:
        """Bytes of the database, with what is not yet written back to its file."""
        pages = "SELECT page_count * page_size FROM pragma_page_count(), pragma_page_size()"
        query = pages if self.is_sqlite else "SELECT pg_database_size(current_database())"
        with self.read() as connection:
            return int(connection.execute(sa.text(query)).scalar_one())

    def close(self) -> None:
        self.engine.dispose()

    def migrate(self) -> tuple[str, str]:
        """Bring the tables to this release. Returns the revisions before and after; "" where there were no tables.

        Raises StoreError: the file is damaged, or of a newer release.
        """
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
        scripts = ScriptDirectory.from_config(config)
        newest = scripts.get_current_head() or ""
        known = {script.revision for script in scripts.walk_revisions()}
        try:
            with self.engine.connect() as connection:
                current = MigrationContext.configure(connection).get_current_revision()
                if current == newest:
                    return newest, newest
                if current is not None and current not in known:
                    raise StoreError(
                        f"The store at {self.url.render_as_string()} is of a newer release (revision {current}; "
                        f"this one knows {newest}): install that release, or restore a backup of this one."
                    )
                if current is not None:
                    self._back_up(current)
                connection.rollback()
                config.attributes["connection"] = connection
                with self._alone(connection):
                    command.upgrade(config, "head")
                    connection.commit()
        except sa.exc.SQLAlchemyError as error:
            why, more = " ".join(str(getattr(error, "orig", None) or error).split()).rstrip("."), ""
            if isinstance(error, sa.exc.DBAPIError):
                if sqlite_file.damaged(error):
                    raise StoreError(sqlite_file.remedy(self.url, why)) from error
                more = sqlite_file.full(error)
            where = self.url.render_as_string()
            raise StoreError(f"The store at {where} cannot be opened or migrated: {why}{more}.") from error
        return current or "", newest

    @contextmanager
    def _alone(self, connection: sa.Connection) -> Iterator[None]:
        """One process migrates at a time: the others wait, and find nothing to do. SQLite is opened on one host."""
        if self.is_sqlite:
            yield
            return
        connection.execute(sa.text("SET lock_timeout = 0"))
        connection.execute(sa.text(f"SELECT pg_advisory_lock({_MIGRATING})"))
        connection.commit()
        try:
            yield
        finally:
            connection.rollback()
            connection.invalidate()  # the server frees the lock with the connection

    def _back_up(self, revision: str) -> None:
        if not self.is_sqlite or not self.url.database or self.url.database == ":memory:":
            return
        path = Path(self.url.database)
        part = path.with_name(f".{path.name}.part")
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(part)) as target:
            source.backup(target)
        shutil.move(part, path.with_name(f"{path.name}.{revision}.backup"))


@contextmanager
def _given_back(connection: sa.Connection) -> Iterator[sa.Connection]:
    """Give a connection back at the end; not for others to use where a signal broke into a statement (a job's
    time-out, a worker's stop): PostgreSQL may still be at it."""
    with closing(connection):
        try:
            yield connection
        except Exception as error:
            if not isinstance(error, sa.exc.SQLAlchemyError) and connection.dialect.name == "postgresql":
                connection.invalidate()
            raise


def _tune_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    connection.isolation_level = None  # the driver's own implicit BEGIN would hide ours
    # NORMAL survives a killed process (what we promise); only a power cut may lose the last commits.
    # 64 MB of pages: the index of a million text keys, which a bulk write goes all over.
    for pragma in (
        "journal_mode=WAL",
        "synchronous=NORMAL",
        f"busy_timeout={LOCK_SECONDS * 1000:.0f}",
        "cache_size=-65536",
    ):
        connection.execute(f"PRAGMA {pragma}")


def _tune_postgresql(connection: Any, _record: object) -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"SET lock_timeout = '{LOCK_SECONDS:.0f}s'")
    connection.commit()


def _see_whether_open(connection: Any, _record: object, _proxy: object) -> None:
    """Whether the server has closed a connection that lay idle, so that another is opened: it says so on the socket,
    where nothing else is to be read. To ask it would be a round trip before each statement, half of all there were."""
    idle = select.poll()
    if not connection.closed:
        idle.register(connection.fileno(), select.POLLIN)
    if connection.closed or idle.poll(0):
        raise sa.exc.DisconnectionError("the server has closed it")


def _passes(error: sa.exc.DBAPIError) -> bool:
    """Whether it passes by itself: a lost connection or a server that starts, a lock, a deadlock, a conflict with
    another transaction, too many connections."""
    if error.connection_invalidated:
        return True
    if isinstance(error.orig, sqlite3.Error):
        return getattr(error.orig, "sqlite_errorname", "").startswith(("SQLITE_BUSY", "SQLITE_LOCKED"))
    code = getattr(error.orig, "sqlstate", None)
    if code is None:  # there was no answer at all
        return isinstance(error, sa.exc.OperationalError)
    return code[:2] in ("08", "40") or code in ("53300", "55P03", "57P01", "57P02", "57P03")


def _pause(attempt: int) -> float:
    """Seconds before the next attempt: .1, .2, .4 ... 3."""
    return float(min(0.1 * 2.0**attempt, 3.0))


def _begin_sqlite(connection: sa.Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get("sqlite_begin", "BEGIN"))
