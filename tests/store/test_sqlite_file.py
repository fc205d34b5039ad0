"""The file of a SQLite store: who may read it, and what is said where it is damaged or takes nothing more."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from mollm.errors import StoreError
from mollm_backend.store import Store, events


def modes(home: Path) -> set[int]:
    return {path.stat().st_mode & 0o777 for path in home.glob("mollm.db*")}


def test_the_file_and_its_log_are_for_their_owner_alone_in_an_old_home_too(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        tmp_path.chmod(0o755)
        store = Store(f"sqlite:///{tmp_path / 'mollm.db'}")
        events.add(store, "info", "x", 7)
        assert len(list(tmp_path.glob("mollm.db*"))) == 3
        assert modes(tmp_path) == {0o600}
        for path in tmp_path.glob("mollm.db*"):  # as an earlier release made them
            path.chmod(0o644)
        again = Store(f"sqlite:///{tmp_path / 'mollm.db'}")
        assert modes(tmp_path) == {0o600}
        (tmp_path / "mollm.db").chmod(0o660)  # for a group, on purpose
        Store(f"sqlite:///{tmp_path / 'mollm.db'}").close()
        assert (tmp_path / "mollm.db").stat().st_mode & 0o777 == 0o660
        again.close()
        store.close()
    finally:
        os.umask(before)


def test_a_damaged_file_names_a_backup_that_is_there_or_says_that_there_is_none(tmp_path: Path) -> None:
    path = tmp_path / "mollm.db"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(
        StoreError, match=rf"damaged .*there is no backup in {tmp_path / 'backups'}: move the file away"
    ):
        Store(f"sqlite:///{path}")
    (tmp_path / "backups").mkdir()
    for day in (1, 2):
        (tmp_path / "backups" / f"mollm-2026010{day}-000000.tar").touch()
    with pytest.raises(StoreError, match=r"`mollm restore .*/backups/mollm-20260102-000000.tar --force`"):
        Store(f"sqlite:///{path}")


def test_a_file_that_is_damaged_in_the_middle_is_told_by_whoever_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "mollm.db"
    store = Store(f"sqlite:///{path}")
    for n in range(2000):
        events.add(store, "info", f"line {n} " + "x" * 100, 7)
    store.close()
    with path.open("r+b") as file:
        file.seek(16 * 4096)
        file.write(os.urandom(path.stat().st_size - 32 * 4096))
    opened = Store(f"sqlite:///{path}", migrate=False)
    with pytest.raises(StoreError, match="is damaged"):
        events.newest(opened, 5000)
    opened.close()


def test_a_full_database_says_what_to_do_and_loses_nothing(tmp_path: Path) -> None:
    store = Store(f"sqlite:///{tmp_path / 'mollm.db'}")

    def small(connection: sqlite3.Connection, _record: object) -> None:
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")

    events.add(store, "info", "before", 7)
    store.engine.dispose()
    sa.event.listen(store.engine, "connect", small)
    with pytest.raises(StoreError, match=r"disk is full: free some space on its disk"), store.write() as connection:
        connection.execute(sa.text("CREATE TABLE more AS SELECT randomblob(1000000)"))
    sa.event.remove(store.engine, "connect", small)
    store.engine.dispose()
    assert [row.line for row in events.newest(store)] == ["before"]
    store.close()
