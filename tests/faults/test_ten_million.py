"""Ten million texts to read: the queue stays small, workers' memory flat, and reading goes on (PostgreSQL, Redis).

The tasks are written in one statement, and four workers read for a while.
Sizes: MOLLM_MILLIONS and MOLLM_MILLIONS_SECONDS.
"""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import redis
import sqlalchemy as sa

from mollm_backend.store import revisions, signals
from mollm_backend.supervisor import postgresql

from ..queue_server import REDIS, queue_server
from ..workers.reading import Reading
from .installation import load, script, until

TASKS = int(float(os.environ.get("MOLLM_MILLIONS", "10")) * 1_000_000)
SECONDS = float(os.environ.get("MOLLM_MILLIONS_SECONDS", "120"))
WORKERS, SECONDS_A_TEXT = 4, 0.0005
QUEUE_MB, GROWTH = 200.0, 1.10
FILL = sa.text(
    "INSERT INTO tasks (project_id, task_id, data_hash, text, text_key, problem, updated_at, changed) "
    "SELECT 7, n, 'h', 'the animal number ' || n, md5(n::text), '', '', 1 FROM generate_series(1, :n) AS n"
)


@pytest.mark.faults
@pytest.mark.timeout(4 * 3600)
@pytest.mark.skipif(REDIS is None, reason="no redis-server is installed")
def test_the_queue_is_small_however_many_texts_there_are(tmp_path: Path) -> None:
    where = postgresql.programs()
    if where is None:
        pytest.skip("PostgreSQL is not installed")
    with ExitStack() as stack:
        database = stack.enter_context(postgresql.server(where))
        queue = stack.enter_context(queue_server("redis"))
        there = Reading(tmp_path, database.url, queue, 10, ("one", "two"))
        with there.store.write() as connection:
            connection.execute(FILL, {"n": TASKS})
            revisions.note(connection, revisions.of_work(7))
        with there.store.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(sa.text("ANALYZE tasks"))
        log = stack.enter_context((tmp_path / "worker.log").open("ab"))
        command = script("tests.faults.answering_worker", str(SECONDS_A_TEXT))
        started = [subprocess.Popen(command, env=there.environment, stdout=log, stderr=log) for _ in range(WORKERS)]
        for process in started:
            stack.callback(process.wait, 60)
            stack.callback(process.terminate)
        until(lambda: answers(there) > 0, 600)
        rows, began = list[tuple[float, float, float]](), time.monotonic()
        opened = redis.Redis.from_url(queue)
        while time.monotonic() < began + SECONDS:
            memory = [psutil.Process(process.pid).memory_info().rss / 2**20 for process in started]
            used = float(opened.info("memory")["used_memory"]) / 2**20
            rows.append((used, max(memory), float(answers(there))))
            time.sleep(2.0)
        opened.close()
    quarter = len(rows) // 4
    early, late = (max(row[1] for row in part) for part in (rows[:quarter], rows[-quarter:]))
    read = (rows[-1][2] - rows[quarter][2]) / (SECONDS * 0.75)
    print(
        f"{TASKS:,} tasks, two LLMs, {WORKERS} workers: the queue has {max(row[0] for row in rows):.1f} MB at most "
        f"(bar: {QUEUE_MB:.0f}); the largest worker {early:.0f} MB in the first quarter of {SECONDS:.0f} s, "
        f"{late:.0f} MB in the last; {read:,.0f} answers/s; {load()}"
    )
    assert max(row[0] for row in rows) < QUEUE_MB
    assert rows[-1][2] > rows[quarter][2], "nothing was read"
    assert late < GROWTH * early


def answers(there: Reading) -> int:
    """How many texts were asked for, by all LLMs."""
    return sum(cost.texts for cost in signals.costs(there.store, 7).values())
