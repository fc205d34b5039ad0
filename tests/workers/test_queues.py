"""The same work never runs twice at once, whoever looks at the queue while a worker takes a job."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

import pytest
import redis
from rq import SimpleWorker
from rq.serializers import JSONSerializer
from rq.timeouts import TimerDeathPenalty

from mollm_backend import jobs
from mollm_backend.work import queues

SECONDS = 2.0
NAMES = ("one", "two", "three")


def rq_worker(connection: redis.Redis, name: str) -> SimpleWorker:
    worker = SimpleWorker(
        [queues.queue(connection, "annotate"), queues.queue(connection, "train")],
        connection=connection, name=name, serializer=JSONSerializer,
    )  # fmt: skip
    worker.death_penalty_class = TimerDeathPenalty  # the other kind works in the main thread only
    worker.register_birth()
    return worker


def test_no_work_runs_twice_at_once_while_others_queue_it(
    queue_url: str, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two workers take jobs of three ids while three sweeps queue them again and again."""
    runs, running, twice, guard, stop = Counter[str](), Counter[str](), list[str](), threading.Lock(), threading.Event()

    def work(_project: int, name: str) -> None:
        with guard:
            runs[name] += 1
            running[name] += 1
            if running[name] > 1:
                twice.append(name)
        time.sleep(0.002)
        with guard:
            running[name] -= 1

    def take() -> None:
        opened = queues.connect(queue_url)
        worker = rq_worker(opened, f"elsewhere.1.{threading.get_ident()}")
        while not stop.is_set():
            taken = worker.queue_class.dequeue_any(worker.queues, None, connection=opened, serializer=JSONSerializer)
            if taken is not None:
                worker.execute_job(*taken)

    def sweep() -> None:
        opened = queues.connect(queue_url)
        while not stop.is_set():
            for name in NAMES:
                queues.enqueue(opened, "annotate", "annotate", 7, name)

    monkeypatch.setattr(jobs, "annotate", work)
    threads = [threading.Thread(target=one) for one in (take, take, sweep, sweep, sweep)]
    for thread in threads:
        thread.start()
    time.sleep(SECONDS)
    stop.set()
    for thread in threads:
        thread.join()
    assert min(runs[name] for name in NAMES) >= 10, "too few jobs ran to show anything"
    assert twice == []


@pytest.fixture
def later(connection: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """After it is called, a job that was seen without a place before is dropped."""
    return lambda: monkeypatch.setattr(queues, "DROPPED_AFTER", 0)


def test_a_job_that_a_killed_worker_had_taken_is_queued_again_after_a_while(
    connection: redis.Redis, later: Callable[[], None]
) -> None:
    waiting = queues.queue(connection, "annotate")
    queues.enqueue(connection, "annotate", "annotate", 7, "tiny")
    assert waiting.pop_job_id() == "annotate-7-tiny"
    for _time in range(3):
        assert not queues.enqueue(connection, "annotate", "annotate", 7, "tiny"), "a worker may be about to start it"
    later()
    assert queues.enqueue(connection, "annotate", "annotate", 7, "tiny")
    assert waiting.job_ids == ["annotate-7-tiny"]


def test_the_time_without_a_place_is_that_of_the_same_job(connection: redis.Redis, later: Callable[[], None]) -> None:
    waiting = queues.queue(connection, "annotate")
    queues.enqueue(connection, "annotate", "annotate", 7, "tiny")
    waiting.pop_job_id()
    assert not queues.enqueue(connection, "annotate", "annotate", 7, "tiny")  # it is seen without a place
    job = waiting.fetch_job("annotate-7-tiny")
    assert job is not None
    job.delete()  # it ran to its end
    queues.enqueue(connection, "annotate", "annotate", 7, "tiny")
    waiting.pop_job_id()
    later()
    assert not queues.enqueue(connection, "annotate", "annotate", 7, "tiny"), "this one was not seen before"
    assert queues.enqueue(connection, "annotate", "annotate", 7, "tiny")


def test_a_worker_that_slept_too_long_after_taking_a_job_leaves_it(
    connection: redis.Redis, later: Callable[[], None]
) -> None:
    waiting = queues.queue(connection, "annotate")
    queues.enqueue(connection, "annotate", "annotate", 7, "tiny")
    taken = waiting.fetch_job(waiting.pop_job_id() or "")
    assert taken is not None
    assert queues.still_waits(connection, taken)
    assert not queues.enqueue(connection, "annotate", "annotate", 7, "tiny")
    later()
    assert queues.enqueue(connection, "annotate", "annotate", 7, "tiny")
    assert not queues.still_waits(connection, taken)
