"""Several workers share one LLM's reading, on any hosts, and no text is asked twice but what a killed one had begun."""

from __future__ import annotations

import os
import signal
from collections import Counter
from pathlib import Path

import redis

from mollm_backend.doctor import work
from mollm_backend.settings import Settings
from mollm_backend.store import projects, signals
from mollm_backend.work import queues, workers

from .reading import Reading, eventually

CHUNK = 16


def test_workers_share_a_reading_and_go_on_where_one_on_another_host_is_killed(
    tmp_path: Path, queue_url: str, connection: redis.Redis
) -> None:
    there = Reading(tmp_path, f"sqlite:///{tmp_path / 'mollm.db'}", queue_url, 1200)
    how = {"MOLLM_CHUNK_TEXTS": str(CHUNK), "TEST_DEAD_AFTER": "3"}
    with (
        there.workers(2, seconds_a_text=0.005, **how) as near,
        there.workers(1, seconds_a_text=0.005, host="elsewhere", **how) as far,
    ):
        eventually(lambda: len(workers.every(connection)) == 3, 90, there.log)
        lost = next(name for name in workers.every(connection) if name.startswith("elsewhere"))
        there.add_tasks()
        eventually(lambda: len(there.asked(far[0].pid)) > 2 * CHUNK, 90, there.log)
        os.kill(far[0].pid, signal.SIGKILL)
        eventually(lambda: there.left() == 0, 90, there.log)
        shares = [len(there.asked(process.pid)) for process in [*near, *far]]
    asked = Counter(there.asked())
    assert set(asked) == there.digests("one")
    assert sum(asked.values()) - there.texts <= CHUNK
    assert min(shares) > 0, shares
    cost = signals.costs(there.store)["one"]
    assert cost.texts == there.texts, "what was answered and not stored costs nothing"
    settings = Settings(home=tmp_path, redis_url=queue_url)
    found = {row.name: row.line for row in work.examine(there.store, settings, projects.every(there.store))}
    assert lost in found["worker-died"]


def test_each_worker_reads_for_those_annotators_that_it_serves(
    tmp_path: Path, queue_url: str, connection: redis.Redis
) -> None:
    there = Reading(tmp_path, f"sqlite:///{tmp_path / 'mollm.db'}", queue_url, 200, ("big.one", "small"))
    with (
        there.workers(1, seconds_a_text=0, arguments=("--queues", "annotate", "--annotators", "big.one")) as gpu,
        there.workers(1, seconds_a_text=0, arguments=("--annotators", "small")) as light,
    ):
        eventually(lambda: len(workers.every(connection)) == 2, 90, there.log)
        there.add_tasks()
        eventually(lambda: there.left() == 0, 90, there.log)
        assert set(there.asked(gpu[0].pid)) == there.digests("big.one")
        assert set(there.asked(light[0].pid)) == there.digests("small")
        assert len(workers.alive_on(connection, queues.reading("small"))) == 1
