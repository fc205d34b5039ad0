"""Everything fails in the middle of a run of four workers on PostgreSQL and Redis: it ends by itself, nothing is lost.

Two workers are killed, PostgreSQL is stopped, the queue is emptied, one worker's clock is an hour ahead (where
`faketime` is installed), and of one model's three servers one hangs and one answers 500.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import httpx
import pytest
import redis

from mollm.annotators import fingerprint
from mollm.config import PanelConfig
from mollm_backend.doctor import work
from mollm_backend.settings import Settings
from mollm_backend.store import projects, signals
from mollm_backend.store.projects import PanelMember
from mollm_backend.supervisor import postgresql
from mollm_backend.work import queues, workers

from ..annotators.fake_server import FakeServer
from ..queue_server import REDIS, queue_server
from ..serving import Handler, serving
from ..workers.reading import LABELS, Reading, eventually

TEXTS = int(os.environ.get("MOLLM_WORKERS_TEXTS", "4000"))
STOPPED = float(os.environ.get("MOLLM_WORKERS_STOPPED", "30"))  # seconds without PostgreSQL
CHUNK, SECONDS_A_TEXT = 16, 0.02
MOST_AGAIN = 2 * CHUNK  # a chunk a kill

AHEAD = ("faketime", "-f", "+1h") if shutil.which("faketime") else ()
SERVED = (
    '[[annotators]]\nname = "served"\nruntime = "openai"\nmodel = "fake"\nprompt = "plain"\norders = 1\nurl = {urls}\n'
)


class Fine(Handler):
    """An LLM's server."""

    fake, lock = FakeServer(window=1000), threading.Lock()

    def do_GET(self) -> None:
        self.do_POST()

    def do_POST(self) -> None:
        with Fine.lock:
            found = Fine.fake.handle(httpx.Request(self.command, f"http://fake{self.path}", content=self.body()))
        self.answer(found.content, status=found.status_code)


class Failing(Fine):
    """Fine until the middle of the run."""

    broken = False

    def do_POST(self) -> None:
        if not type(self).broken:
            super().do_POST()
            return
        self.body()
        self.answer(b'{"error": "out of memory"}', status=500)


class Hanging(Fine):
    broken, over = False, threading.Event()

    def do_POST(self) -> None:
        if not type(self).broken:
            super().do_POST()
            return
        type(self).over.wait(120)
        self.close_connection = True


@pytest.mark.faults
@pytest.mark.timeout(1800)
@pytest.mark.skipif(REDIS is None, reason="no redis-server is installed")
def test_a_run_in_which_everything_fails_once_ends_by_itself(tmp_path: Path) -> None:
    where = postgresql.programs()
    if where is None:
        pytest.skip("PostgreSQL is not installed")
    with ExitStack() as stack:
        database = stack.enter_context(postgresql.server(where))
        queue = stack.enter_context(queue_server("redis"))
        urls = [stack.enter_context(serving(kind)) for kind in (Fine, Failing, Hanging)]
        stack.callback(Hanging.over.set)
        there = Reading(tmp_path, database.url, queue, TEXTS)
        add_served(there, urls)
        connection = queues.connect(queue)
        how = {"MOLLM_CHUNK_TEXTS": str(CHUNK)}
        near = stack.enter_context(there.workers(2, seconds_a_text=SECONDS_A_TEXT, **how))
        far = stack.enter_context(there.workers(1, seconds_a_text=SECONDS_A_TEXT, host="elsewhere", **how))
        stack.enter_context(there.workers(1, seconds_a_text=SECONDS_A_TEXT, host="ahead", before=AHEAD, **how))
        eventually(lambda: len(workers.every(connection)) == 4, 180, there.log)
        there.add_tasks()
        started = time.monotonic()
        faults(there, connection, database, [near[0].pid, far[0].pid])
        eventually(lambda: there.left() == 0, 900, there.log)
        took = time.monotonic() - started
        tell(there, took)
        died = {
            row.name: row.line
            for row in work.examine(there.store, Settings(home=tmp_path, redis_url=queue), projects.every(there.store))
        }
        assert "worker-died" in died


def add_served(there: Reading, urls: list[str]) -> None:
    """One more annotator, which three servers serve."""
    path = there.home / "panel.toml"
    path.write_text(path.read_text() + SERVED.format(urls=json.dumps(urls)))
    panel = PanelConfig.load(path)
    there.members = tuple(
        PanelMember(one.name, fingerprint(one, LABELS, panel.instruction, ())) for one in panel.annotators
    )
    projects.set_panel(there.store, 7, there.members)


def faults(there: Reading, connection: redis.Redis, database: postgresql.Server, victims: list[int]) -> None:
    """One after the other, each when some more texts are read."""

    def read(share: float) -> None:
        def done() -> bool:
            costs = signals.costs(there.store).values()
            return sum(cost.texts for cost in costs) >= share * TEXTS * len(there.members)

        eventually(done, 900, there.log)

    read(0.1)
    os.kill(victims[0], signal.SIGKILL)
    read(0.2)
    Failing.broken = Hanging.broken = True
    read(0.3)
    connection.flushall()
    read(0.4)
    database.stop()
    time.sleep(STOPPED)
    database.start()
    read(0.5)
    os.kill(victims[1], signal.SIGKILL)


def tell(there: Reading, took: float) -> None:
    asked = Counter(there.asked())
    again = sum(asked.values()) - TEXTS
    costs = signals.costs(there.store)
    print(
        f"{TEXTS} texts, two LLMs, four workers, {took:.0f} s: of one LLM asked again {again} (bar: {MOST_AGAIN}), "
        f"charged {sum(cost.texts for cost in costs.values())} of {2 * TEXTS}; clock an hour ahead: {bool(AHEAD)}"
    )
    assert set(asked) == there.digests("one")
    assert again <= MOST_AGAIN
    with there.store.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM signals").scalar_one() == 2 * TEXTS
        assert connection.exec_driver_sql("SELECT count(*) FROM signals WHERE abstained >= 1").scalar_one() == 0
    assert all(TEXTS <= cost.texts <= TEXTS + MOST_AGAIN for cost in costs.values())
