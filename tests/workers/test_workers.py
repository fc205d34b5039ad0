"""Who is alive, on any host; what a worker serves; and how a reading is split among them."""

from __future__ import annotations

import os
import platform
import re
import threading
import time

import numpy as np
import psutil
import pytest
import redis
from rq.serializers import JSONSerializer
from typer.testing import CliRunner

from mollm.annotators import Answer
from mollm.errors import ConfigError
from mollm_backend import jobs
from mollm_backend.cli import app as command_line
from mollm_backend.doctor import work
from mollm_backend.jobs import due, reading
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.jobs.worker import Worker, give_memory_back, listens_to
from mollm_backend.settings import Settings
from mollm_backend.store import Store, projects, signals, tasks
from mollm_backend.store.signals import Cost, SignalRow
from mollm_backend.store.tasks import Task
from mollm_backend.work import queues, split, workers

FAR = "elsewhere.0.4711.1"


def born(connection: redis.Redis, name: str, *names: str) -> Worker:
    worker = Worker(
        [queues.queue(connection, one) for one in names or queues.QUEUES],
        connection=connection, name=name, serializer=JSONSerializer,
    )  # fmt: skip
    worker.register_birth()
    worker.beat(connection)
    return worker


def begun(connection: redis.Redis, worker: Worker) -> None:
    """The worker has begun a training, and nothing is heard of it any more."""
    job, _queue = worker.dequeue_job_and_maintain_ttl(timeout=1)
    worker.prepare_execution(job)
    worker.prepare_job_execution(job)


def test_a_worker_on_another_host_is_dead_soon_after_its_last_beat(connection: redis.Redis) -> None:
    queues.enqueue(connection, "train", "train", 7)
    worker = born(connection, FAR)
    begun(connection, worker)
    assert 0 < connection.ttl(worker.key) <= workers.DEAD_AFTER, "also in the middle of a job that may take hours"
    assert workers.every(connection) == [FAR]
    assert queues.reap(connection) == {}
    assert not queues.enqueue(connection, "train", "train", 7)
    connection.delete(worker.key)  # the time is over
    assert workers.every(connection) == []
    assert queues.reap(connection) == {"train-7": FAR}
    assert queues.enqueue(connection, "train", "train", 7)


def test_a_worker_that_was_taken_for_dead_or_lost_by_the_queue_says_again_who_it_is(connection: redis.Redis) -> None:
    worker = born(connection, FAR)
    connection.flushall()
    assert workers.every(connection) == []
    worker.beat(connection)
    assert workers.every(connection) == workers.alive_on(connection, "train") == [FAR]
    worker.register_death()
    assert workers.every(connection) == []


def test_a_process_of_this_host_that_is_gone_is_dead_at_once(connection: redis.Redis) -> None:
    mine = workers.worker_name()
    born(connection, mine)
    gone = re.sub(rf"\.{os.getpid()}\.", ".999999999.", mine)
    born(connection, gone)
    assert workers.every(connection) == [mine]


def test_doctor_names_who_died(store: Store, settings: Settings, connection: redis.Redis) -> None:
    workers.note_dead(connection, FAR, "train-7")
    found = {row.name: row.line for row in work.examine(store, settings, projects.every(store))}
    assert f"{FAR} died" in found["worker-died"]
    assert "train-7" in found["worker-died"]


def test_doctor_says_whom_no_worker_serves(runtime: Runtime, settings: Settings, connection: redis.Redis) -> None:
    born(connection, FAR, "train", queues.reading("tiny"))
    found = [row.line for row in work.examine(runtime.store, settings, projects.every(runtime.store))]
    assert [line for line in found if "no worker serves" in line] == [
        "project 7: no worker serves small, which has texts to read"
    ]
    born(connection, "other.0.1.1")
    found = [row.line for row in work.examine(runtime.store, settings, projects.every(runtime.store))]
    assert not any("no worker serves" in line for line in found)


def resident_mb() -> float:
    return float(psutil.Process().memory_info().rss / 2**20)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps freed memory so")
def test_what_a_training_has_freed_goes_back_to_the_system() -> None:
    pieces = [np.ones(6_000) for _ in range(6_000)]  # 48 KB each: too small for a mapping of its own
    last = pieces.pop()  # it lies behind all others, so that glibc does not shorten its heap
    del pieces
    before = resident_mb()
    give_memory_back()
    assert before - resident_mb() > 200
    assert last[0] == 1


def test_what_a_worker_listens_to() -> None:
    panel = ["big", "small"]
    every = [*queues.QUEUES, "annotate.big", "annotate.small"]
    assert listens_to(panel) == every
    assert listens_to(panel, ["annotate"], ["big"]) == ["annotate.big"]
    assert listens_to(panel, (), ["small"]) == ["train", "publish", "reconcile", "annotate.small"]
    assert listens_to(panel, ["reconcile", "train"]) == ["train", "reconcile"]
    with pytest.raises(ConfigError, match="'huge' is no annotator of the panel file: there are big, small"):
        listens_to(panel, (), ["huge"])
    with pytest.raises(ConfigError, match="'read' is no queue: there are train, publish, reconcile, annotate"):
        listens_to(panel, ["read"])
    with pytest.raises(ConfigError, match="has to serve the queue annotate"):
        listens_to(panel, ["train"], ["big"])


def test_the_command_says_what_there_is_not(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLLM_HOME", str(settings.home))
    monkeypatch.setattr("mollm_backend.jobs.worker.limit_threads", lambda: None)
    done = CliRunner().invoke(command_line, ["worker", "--queues", "read"])
    assert isinstance(done.exception, ConfigError)
    assert "'read' is no queue" in str(done.exception)


def test_annotators_take_turns(connection: redis.Redis) -> None:
    names = [queues.reading("big"), queues.reading("small")]
    worker = born(connection, FAR, *names)
    for part in split.parts(2):
        for name in ("big", "small"):
            queues.enqueue(connection, queues.reading(name), "annotate", 7, name, part)
    taken = [worker.dequeue_job_and_maintain_ttl(timeout=1)[0].id for _ in range(4)]
    assert taken == ["annotate-7-big-1of2", "annotate-7-small-1of2", "annotate-7-big-2of2", "annotate-7-small-2of2"]


def test_parts_cover_each_text_once() -> None:
    for size in (1, 2, 4, 8, 16):
        assert sorted("".join(split.slots(part) for part in split.parts(size))) == sorted(split.SLOTS)
    assert [split.size_for(count) for count in (0, 1, 2, 3, 5, 9, 40)] == [1, 1, 2, 4, 8, 16, 16]


def test_a_split_changes_only_when_no_job_of_the_one_before_is_left(connection: redis.Redis) -> None:
    assert split.agree(connection, 7, "tiny", 1)
    queues.enqueue(connection, "annotate", "annotate", 7, "tiny")
    assert not split.agree(connection, 7, "tiny", 4), "its job waits"
    assert split.in_force(connection, 7, "tiny", split.WHOLE)
    queues.queue(connection, "annotate").empty()
    assert split.agree(connection, 7, "tiny", 4)
    assert not split.in_force(connection, 7, "tiny", split.WHOLE)
    assert all(split.in_force(connection, 7, "tiny", part) for part in split.parts(4))


@pytest.fixture
def runtime(settings: Settings, store: Store, connection: redis.Redis) -> Runtime:
    opened = Runtime(settings, store, connection)
    jobs.install(opened)
    tasks.upsert(store, 7, [Task(n + 1, f"h{n}", f"text {n}") for n in range(100)])
    return opened


def queued(connection: redis.Redis, name: str) -> list[str]:
    return sorted(queues.queue(connection, queues.reading(name)).job_ids)


def test_a_sweep_queues_a_part_for_each_worker_where_texts_are_left(runtime: Runtime, connection: redis.Redis) -> None:
    for host in range(4):
        born(connection, f"host{host}.0.1.1", queues.reading("tiny"))
    born(connection, FAR, queues.reading("small"))
    due.sweep(runtime)
    assert queued(connection, "tiny") == [f"annotate-7-tiny-{n}of4" for n in (1, 2, 3, 4)]
    assert queued(connection, "small") == ["annotate-7-small"]
    keys = {Task(0, "", f"text {n}").text_key for n in range(100)}
    wanted = {part: [key for key in keys if key[0] in split.slots(part)] for part in split.parts(4)}
    for part, mine in wanted.items():
        found = signals.missing(runtime.store, 7, "f-tiny", 100, slots=split.slots(part))
        assert sorted(task.text_key for task in found) == sorted(mine)


def test_a_job_of_a_split_that_is_over_asks_for_nothing(
    runtime: Runtime, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    split.agree(connection, 7, "tiny", 2)
    monkeypatch.setattr(Runtime, "annotator", lambda *_args: pytest.fail("it was asked"))
    jobs.annotate(7, "tiny", "1of4")
    assert signals.unanswered(runtime.store, 7, "f-tiny") == 100


def test_a_job_that_is_another_workers_ends_after_its_chunk(
    runtime: Runtime, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([True, True, False])
    monkeypatch.setattr(queues, "still_mine", lambda _connection: next(answers))
    project = projects.get(runtime.store, 7)
    end = reading.End()
    read = [
        len(rows) for rows, _took in reading.chunks(runtime, project, project.panel[0], split.WHOLE, split.SLOTS, end)
    ]
    assert read == [reading.FEWEST, reading.FEWEST]
    assert not end.reached


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
def test_a_part_is_read_by_one_worker_also_where_the_queue_is_emptied(
    runtime: Runtime, settings: Settings, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One worker is in the middle of a chunk; the emptied queue knows nothing of it, and gives another the same."""
    asked, begun, go_on = list[str](), threading.Event(), threading.Event()

    class Slow:
        asks_along = False

        def annotate(self, texts: list[str]) -> list[Answer]:
            asked.extend(texts)
            if not begun.is_set():
                begun.set()
                assert go_on.wait(60)
            return [Answer(np.array([0.5, 0.5]), np.array([0.5, 0.5]))] * len(texts)

    monkeypatch.setattr(Runtime, "annotator", lambda *_args: Slow())
    monkeypatch.setattr("mollm_backend.jobs.runtime.READING_WAIT", 0.2)
    # The first job goes on to its end, also on a busy machine.
    monkeypatch.setattr(jobs, "ANNOTATE_SECONDS", 600.0)
    monkeypatch.setattr(reading, "LOOK_SECONDS", 600.0)
    split.agree(connection, 7, "tiny", 2)
    first = threading.Thread(target=jobs.annotate, args=(7, "tiny", "1of2"))
    first.start()
    try:
        assert begun.wait(60)
        before = list(asked)
        connection.flushall()
        jobs.install(Runtime(settings, Store(settings.store_url), connection))
        jobs.annotate(7, "tiny")
        digits = {Task(0, "", text).text_key[0] for text in asked[len(before) :]}
        assert digits <= set(split.slots("2of2")), "it reads the other half meanwhile"
        split.agree(connection, 7, "tiny", 2)
        found = len(asked)
        jobs.annotate(7, "tiny", "1of2")
        assert len(asked) == found, "nothing of it is free"
    finally:
        go_on.set()
        first.join()
    assert sorted(asked) == sorted(f"text {n}" for n in range(100))


def test_a_reading_goes_on_where_it_was_but_begins_with_what_is_new(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LOOK_SECONDS", 0.0)
    project = projects.get(runtime.store, 7)

    def first(count: int) -> list[list[int]]:
        found = reading.chunks(runtime, project, project.panel[0], split.WHOLE, split.SLOTS, reading.End())
        read = []
        for _n, (rows, took) in zip(range(count), found, strict=False):
            read.append([task.task_id for task in rows])
            took(reading.CHUNK_SECONDS)
        return read

    ids = list(range(100, 0, -1))
    assert first(2) == [ids[:16], ids[16:32]]
    new = Task(101, "h", "text 101")
    tasks.upsert(runtime.store, 7, [new])
    assert first(1) == [[101]], "another job, the newest task first"
    signals.save(
        runtime.store,
        project.panel[0],
        7,
        [signals.SignalRow(new.text_key, *np.array([[0.1, 0.9]] * 2))],
        signals.Cost(),
    )
    assert first(1) == [ids[32:48]]
    assert first(9)[-1] == [ids[-4:]][0]
    assert first(1) == [ids[:16]], "from the newest again after the oldest"
    monkeypatch.setattr(time, "monotonic", lambda now=time.monotonic: now() + reading.PLACE_SECONDS + 1)
    assert first(1) == [ids[:16]], "now and then it looks at all again"


def test_a_reading_ends_soon_where_work_waits_that_comes_first(
    runtime: Runtime, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LOOK_SECONDS", -1.0)
    monkeypatch.setattr(reading, "FREE_AFTER", 0.0)
    project = projects.get(runtime.store, 7)

    def chunks() -> int:
        runtime.places.clear()
        runtime.chunk_texts.clear()
        return len(list(reading.chunks(runtime, project, project.panel[0], split.WHOLE, split.SLOTS, reading.End())))

    runtime.comes_first = ("train", "reconcile")
    born(connection, "host.0.1.1", queues.reading("tiny"))
    assert chunks() == 7
    queues.enqueue(connection, "reconcile", "predict", 7)
    assert chunks() == 1
    runtime.comes_first = ("train",)
    assert chunks() == 7, "a worker that does not serve that queue"
    runtime.readings = (queues.reading("tiny"), queues.reading("small"))
    queues.enqueue(connection, queues.reading("small"), "annotate", 7, "small")
    assert chunks() == 7, "another reading waits its turn, but nothing is new"


def test_a_reading_makes_way_for_another_that_may_have_the_new_task(runtime: Runtime, connection: redis.Redis) -> None:
    project = projects.get(runtime.store, 7)
    runtime.readings = (queues.reading("small"),)
    queues.enqueue(connection, queues.reading("small"), "annotate", 7, "small")
    assert not reading._makes_way(runtime, project, 0.0)
    tasks.upsert(runtime.store, 7, [Task(101, "h", "text 101")])
    assert reading._makes_way(runtime, project, 0.0)
    said = SignalRow(Task(101, "h", "text 101").text_key, np.array([1.0, 0.0]), np.array([1.0, 0.0]))
    signals.save(runtime.store, project.panel[0], 7, [said], Cost())
    assert not reading._makes_way(runtime, project, 0.0), "somebody has answered it"


def test_the_part_that_has_the_new_task_is_brought_forward(runtime: Runtime, connection: redis.Redis) -> None:
    project, name = projects.get(runtime.store, 7), queues.reading("tiny")
    runtime.readings = (name,)
    assert split.agree(connection, 7, "tiny", 4)
    jobs = [queues.job_id("annotate", 7, "tiny", part) for part in split.parts(4)]
    for part in split.parts(4):
        queues.enqueue(connection, name, "annotate", 7, "tiny", part)
    assert not reading._makes_way(runtime, project, 0.0)
    new = Task(101, "h", "text 101")
    tasks.upsert(runtime.store, 7, [new])
    mine = next(n for n, part in enumerate(split.parts(4)) if new.text_key[0] in split.slots(part))
    assert reading._makes_way(runtime, project, 0.0)
    assert queues.queue(connection, name).job_ids == [jobs[mine], *(job for n, job in enumerate(jobs) if n != mine)]
    queues.bring_forward(connection, name, "annotate-7-another")
    assert len(queues.queue(connection, name).job_ids) == 4, "a job that does not wait there is not put there"


def test_a_reading_that_begins_leaves_its_turn_to_the_part_that_has_the_new_task(
    runtime: Runtime, connection: redis.Redis
) -> None:
    project, name = projects.get(runtime.store, 7), queues.reading("tiny")
    runtime.readings = (name,)
    born(connection, "host.0.1.1", name)
    born(connection, "host.0.2.1", name)
    assert split.agree(connection, 7, "tiny", 2)
    new = Task(101, "h", "text 101")
    theirs, mine = sorted(split.parts(2), key=lambda part: new.text_key[0] in split.slots(part), reverse=True)

    def chunks(part: str) -> int:
        slots = split.slots(part)
        runtime.places.clear()
        runtime.chunk_texts.clear()
        return len(list(reading.chunks(runtime, project, project.panel[0], part, slots, reading.End())))

    left = chunks(mine)
    assert left
    tasks.upsert(runtime.store, 7, [new])
    assert chunks(mine) == left, "nobody waits for the turn"
    runtime.passed.clear()
    queues.enqueue(connection, name, "annotate", 7, "tiny", mine)
    queues.enqueue(connection, name, "annotate", 7, "tiny", theirs)
    assert chunks(mine) == 0
    assert queues.queue(connection, name).job_ids[0] == queues.job_id("annotate", 7, "tiny", theirs)
    assert chunks(mine) == left, "not twice for the same task"
    assert chunks(theirs), "the part that has it reads it"


def test_a_reading_goes_on_with_an_import_and_then_with_the_rest(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LOOK_SECONDS", -1.0)
    project, looks = projects.get(runtime.store, 7), list[int]()
    missing = signals.missing
    monkeypatch.setattr(signals, "missing", lambda *args, **how: looks.append(1) or missing(*args, **how))
    read = list[int]()
    for rows, took in reading.chunks(runtime, project, project.panel[0], split.WHOLE, split.SLOTS, reading.End()):
        took(reading.CHUNK_SECONDS)
        read += [task.task_id for task in rows]
        said = [SignalRow(task.text_key, np.array([1.0, 0.0]), np.array([1.0, 0.0])) for task in rows]
        signals.save(runtime.store, project.panel[0], 7, said, Cost())
        if len(read) == 16:
            tasks.upsert(runtime.store, 7, [Task(n, "h", f"text {n}") for n in range(101, 141)])
    assert read == [*range(100, 84, -1), *range(140, 100, -1), *range(84, 0, -1)]
    assert len(looks) <= 12, "it does not walk over what is answered again and again"


def test_a_reading_ends_once_the_new_tasks_are_read(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of a job brings the prediction of what it has read, for which somebody may wait."""
    monkeypatch.setattr(reading, "LOOK_SECONDS", 0.0)
    project = projects.get(runtime.store, 7)
    read = []
    for rows, took in reading.chunks(runtime, project, project.panel[0], split.WHOLE, split.SLOTS, reading.End()):
        took(reading.CHUNK_SECONDS)
        read.append([task.task_id for task in rows])
        if len(read) == 2:
            tasks.upsert(runtime.store, 7, [Task(101, "h", "text 101")])
    assert read == [list(range(100, 84, -1)), list(range(84, 68, -1)), [101]]


def test_a_chunk_that_never_ends_is_smaller_the_next_time(runtime: Runtime) -> None:
    """A job is stopped after five minutes: asked for as many again, a very slow LLM would never get anywhere."""
    project = projects.get(runtime.store, 7)
    sizes = [
        len(next(reading.chunks(runtime, project, project.panel[0], split.WHOLE, split.SLOTS, reading.End()))[0])
        for _ in range(4)
    ]
    assert sizes == [16, 4, 1, 1]
    runtime.chunk_texts.clear()
    rows, took = next(reading.chunks(runtime, project, project.panel[0], split.WHOLE, split.SLOTS, reading.End()))
    took(0.1)
    assert len(
        next(reading.chunks(runtime, project, project.panel[0], split.WHOLE, split.SLOTS, reading.End()))[0]
    ) == 2 * len(rows)


def test_a_chunk_grows_to_what_takes_some_seconds() -> None:
    size, sizes = reading.FEWEST, []
    for _ in range(12):
        size = reading.next_size(size, size * 0.01)
        sizes.append(size)
    assert sizes[:3] == [32, 64, 128], "at most doubled"
    assert sizes[-1] == pytest.approx(reading.CHUNK_SECONDS / 0.01, abs=1)
    assert reading.next_size(500, 60.0) == 250
    assert reading.next_size(reading.FEWEST, 600.0) == reading.FEWEST // 2
    assert reading.next_size(1, 600.0) == 1
    assert reading.next_size(reading.MOST, 0.01) == reading.MOST
