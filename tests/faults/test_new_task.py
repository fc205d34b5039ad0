"""A task that comes while two workers read 100,000 others on PostgreSQL and Redis is predicted soon.

Size: MOLLM_NEW_TASK_TEXTS.
"""

from __future__ import annotations

import os
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from mollm_backend.store import projects, tasks, versions
from mollm_backend.store.tasks import Task
from mollm_backend.supervisor import postgresql
from mollm_backend.work import queues, workers

from ..conftest import BARS_HOLD
from ..queue_server import REDIS, queue_server
from ..workers.reading import Reading, eventually

TEXTS = int(os.environ.get("MOLLM_NEW_TASK_TEXTS", "100000"))
NEW, SECONDS_A_TEXT, BAR = 10, 0.002, 5.0


@pytest.mark.faults
@pytest.mark.timeout(3600)
@pytest.mark.skipif(REDIS is None, reason="no redis-server is installed")
def test_a_new_task_is_predicted_soon_while_many_are_read(tmp_path: Path) -> None:
    where = postgresql.programs()
    if where is None:
        pytest.skip("PostgreSQL is not installed")
    with ExitStack() as stack:
        database = stack.enter_context(postgresql.server(where))
        queue = stack.enter_context(queue_server("redis"))
        there = Reading(tmp_path, database.url, queue, TEXTS + NEW, ("one", "two"))
        rows = [Task(n + 1, str(n), text) for n, text in enumerate(there.said)]
        tasks.upsert(there.store, 7, rows[:TEXTS])
        stack.enter_context(there.workers(2, seconds_a_text=SECONDS_A_TEXT))
        eventually(lambda: len(workers.every(queues.connect(queue))) == 2, 300, there.log)
        eventually(lambda: bool(projects.get(there.store, 7).published_version), 900, there.log)
        took = list[float]()
        for row in rows[TEXTS:]:
            tasks.upsert(there.store, 7, [row])
            started = time.monotonic()
            eventually(lambda task_id=row.task_id: predicted(there, task_id), 300, there.log)  # type: ignore[misc]
            took.append(time.monotonic() - started)
            time.sleep(1.0)
        left = there.left()
    print(
        f"{NEW} new tasks while {TEXTS:,} are read by two LLMs with two workers ({left:,} answers were still to come): "
        f"predicted after {np.median(took):.1f} s (median), {max(took):.1f} s (longest); "
        f"load {os.getloadavg()[0]:.0f}"
    )
    assert left, "the reading was over too soon to show anything"
    if BARS_HOLD:
        assert max(took) < BAR, took


def predicted(there: Reading, task_id: int) -> bool:
    """Whether the published version has predicted this task, as it is when some annotator has answered."""
    version = projects.get(there.store, 7).published_version or ""
    return bool(versions.of_tasks(there.store, 7, version, [task_id]))
