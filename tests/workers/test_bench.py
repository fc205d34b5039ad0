"""`mollm bench workers`: real workers on a real queue, and what it prints."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from mollm_backend.cli import app


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
def test_it_reads_all_once_with_each_number_of_workers(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOLLM_HOME", raising=False)
    command = ["bench", "workers", "--workers", "1,2", "--texts", "300", "--delay-ms", "5", "--llms", "2", "--json"]
    done = CliRunner().invoke(app, [*command, "--database", database_url or "sqlite"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["texts"], found["llms"] == (300, 2)
    for count, row in found["workers"].items():
        assert row["asked_twice"] == 0
        assert row["texts_a_second"] > 0
        assert len(row["memory_mb_start"]) == len(row["memory_mb_most"]) == int(count)
        assert min(row["memory_mb_most"]) > 10
        assert len(row["load"]) == 2
    assert found["workers"]["1"]["ratio"] == 1


def test_a_queue_that_somebody_uses_is_refused(queue_url: str) -> None:
    import redis

    redis.Redis.from_url(queue_url).set("theirs", 1)
    done = CliRunner().invoke(app, ["bench", "workers", "--texts", "100", "--redis-url", queue_url])
    assert done.exit_code != 0
    assert "name an empty one" in str(done.exception)
    redis.Redis.from_url(queue_url).delete("theirs")


def test_numbers_of_workers_are_numbers() -> None:
    assert CliRunner().invoke(app, ["bench", "workers", "--workers", "1,many"]).exit_code == 2
