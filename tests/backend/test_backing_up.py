"""Workers make backups on a schedule, read them again, and keep some."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import redis

from mollm.errors import StoreError
from mollm_backend import jobs
from mollm_backend.jobs import backing_up, due
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.settings import Settings
from mollm_backend.store import Store, backup, events, sqlite_file
from mollm_backend.work import queues


def test_one_a_day_is_made_and_the_last_are_kept(
    settings: Settings, store: Store, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(settings.model_copy(update={"backups_kept": 2}), store, connection)
    jobs.install(runtime)
    where, made = settings.home / "backups", list[Path]()
    for day in range(4):
        monkeypatch.setattr(backup, "name", lambda day=day: f"mollm-2026010{day}-000000.tar")
        due.back_up(runtime)
        due.back_up(runtime)
        assert queues.queue(connection, "reconcile").job_ids == ["back_up"]
        queues.queue(connection, "reconcile").empty()
        connection.flushall()
        jobs.back_up()
        made.append(where / backup.name())
        assert not backing_up.due(runtime)
        jobs.back_up()  # it runs twice, and makes one
        old = time.time() - 25 * 3600
        os.utime(made[-1], (old, old))
    assert backup.kept(where) == made[2:]
    path = sqlite_file.path_of(store.url)
    assert path is not None
    assert sqlite_file.newest_backup(path) == made[-1]


def test_one_that_cannot_be_read_again_is_no_backup(
    settings: Settings, store: Store, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(settings, store, connection)
    jobs.install(runtime)

    def damaged(file: Path) -> None:
        raise StoreError(f"The backup {file} is damaged")

    monkeypatch.setattr(backup, "check", damaged)
    jobs.back_up()
    assert backup.kept(settings.home / "backups") == []
    assert "is damaged (next try" in events.newest(store, 1)[0].line
    off = Runtime(settings.model_copy(update={"backup_hours": 0.0}), store, connection)
    assert not backing_up.due(off)
