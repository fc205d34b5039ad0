"""The worker process: takes jobs one after another and keeps the models warm between them.

RQ's SimpleWorker is chosen on purpose: it runs jobs in this process. A forking worker would load every model
again for each job and would carry CUDA across a fork, which CUDA does not survive.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import logging
import os
import threading
import time
from collections.abc import Sequence
from typing import Any

import redis
import structlog
from rq import Queue, SimpleWorker, worker_registration
from rq.serializers import JSONSerializer
from sqlalchemy.exc import SQLAlchemyError

from mollm.errors import ConfigError, MollmError
from mollm_backend import jobs, logs, settings
from mollm_backend.jobs import alerting, due, same_models
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.store import Store, projects
from mollm_backend.work import queues, workers

log = structlog.get_logger()
# What passes by itself: a busy or restarting database or queue.
TRANSIENT = (redis.RedisError, SQLAlchemyError, MollmError)
PATIENCE = 60.0  # seconds for which a worker waits for a database that starts again, rather than lose what an LLM said


class Worker(SimpleWorker):  # type: ignore[misc]
    """After each job it queues what the store lacks, so that work never waits for the next sweep."""

    runtime: Runtime
    _ordered_queues: list[Queue]

    def heartbeat(self, timeout: int | None = None, pipeline: Any = None) -> None:  # noqa: ARG002
        """RQ's hook: its row of this worker expires soon, whatever the job's own time-out (hours for a training)."""
        super().heartbeat(workers.DEAD_AFTER, pipeline=pipeline)

    def beat(self, connection: redis.Redis) -> None:
        """Say that this worker lives; it is written anew where it had expired or the queue was emptied."""
        with connection.pipeline() as pipeline:
            self.heartbeat(pipeline=pipeline)
            if pipeline.execute()[0] == 1:  # the row holds nothing but this beat
                pipeline.hset(self.key, mapping=self.serialize())
                worker_registration.register(self, pipeline)
                pipeline.execute()

    def _shutdown(self) -> None:
        """Remember the stop: between jobs RQ only raises it, and a library that is interrupted there may swallow it."""
        self._stop_requested = True
        super()._shutdown()

    def reorder_queues(self, reference_queue: Any) -> None:
        """RQ's hook after each job that is taken: a reading goes before the next reconciliation, in turns.

        While people label without a pause, each reconciliation ends with the next one waiting, and no text would
        ever be read. A reading lasts seconds; training and publishing come before both.
        """
        names = list(queues.QUEUES)
        if reference_queue.name == "reconcile":
            names.append(names.pop(names.index("reconcile")))
        # The annotators take turns, too: the one that was served goes to the end.
        turn = sorted(self._ordered_queues, key=lambda queue: queue.name == reference_queue.name)
        self._ordered_queues = sorted(turn, key=lambda queue: names.index(queues.kind(queue.name)))

    def execute_job(self, job: Any, queue: Any) -> None:
        if not queues.still_waits(self.connection, job):
            return  # this process slept so long that the job was taken for dropped: another has it
        super().execute_job(job, queue)
        if queue.name == "train":
            give_memory_back()
        project_id = job.args[0] if job.args else None
        try:
            project = projects.find(self.runtime.store, project_id) if isinstance(project_id, int) else None
            if project is not None and project.connected:
                due.sweep_project(self.runtime, project)
        except TRANSIENT as error:
            log.warning("the sweep after a job was put off", error=str(error))  # the next regular one makes it good


def give_memory_back() -> None:
    """Return to the system what nothing uses any more. With each training glibc keeps some more of it, in pieces: after
    five of them a process had 1.1 GB, .6 of them in use. Other C libraries need no such call, and have none."""
    gc.collect()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _sweep_for_ever(runtime: Runtime, stop: threading.Event) -> None:
    """At start and every `sweep_seconds` queue what is missing; after each beat forget jobs of dead workers, and then
    queue at once."""
    first, next_sweep = True, 0.0
    while True:
        try:
            lost = queues.reap(runtime.connection)
            for identity, worker in lost.items():
                log.warning("a job was lost with its worker", job=identity, worker=worker)
            if lost or time.monotonic() >= next_sweep:
                next_sweep = time.monotonic() + runtime.settings.sweep_seconds
                due.sweep(runtime, reconcile=first)
                due.back_up(runtime)
                first = False
                alerting.check(runtime)
        except TRANSIENT as error:
            log.warning("sweep put off", error=str(error))
        if stop.wait(min(workers.BEAT, runtime.settings.sweep_seconds)):
            return


def _beat_for_ever(worker: Worker, connection: redis.Redis, stop: threading.Event) -> None:
    """In a thread of its own, which waits for nothing but the queue: a long job or a slow store is no death."""
    while not stop.wait(workers.BEAT):
        with contextlib.suppress(redis.RedisError):  # the next beat makes it good
            worker.beat(connection)


def limit_threads() -> None:
    """Leave one core to the people: torch and BLAS take the others, and the worker is nice."""
    threads = str(max(1, (os.cpu_count() or 2) - 1))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.nice(max(0, 10 - os.nice(0)))


def listens_to(panel: Sequence[str], serves: Sequence[str] = (), annotators: Sequence[str] = ()) -> list[str]:
    """The queues of a worker, in the order in which it takes from them.

    `serves`: which of the queues (none: all). `annotators`: whose readings (none: those of the whole panel, and what
    nobody else serves). Raises ConfigError for a name that there is not.
    """
    for given, known, what in ((serves, queues.QUEUES, "queue"), (annotators, panel, "annotator of the panel file")):
        if unknown := [name for name in given if name not in known]:
            raise ConfigError(f"{unknown[0]!r} is no {what}: there are {', '.join(known)}.")
    if annotators and serves and "annotate" not in serves:
        raise ConfigError("A worker for some annotators has to serve the queue annotate.")
    names = [name for name in queues.QUEUES if name in (serves or queues.QUEUES)]
    if "annotate" not in names:
        return names
    if annotators:
        names.remove("annotate")
    return [*names, *map(queues.reading, annotators or panel)]


def main(serves: Sequence[str] = (), annotators: Sequence[str] = ()) -> None:
    """Run one worker until SIGTERM or SIGINT. What it takes is as `listens_to` says. Raises ConfigError."""
    limit_threads()
    loaded = settings.load()
    logs.set_up(loaded.log_level)
    logs.set_up_libraries(loaded.log_level)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # its lines carry whole URLs
    connection = queues.connect(loaded.queue_url)
    runtime = Runtime(loaded, Store(loaded.store_url, patience=PATIENCE), connection)
    names = listens_to([one.name for one in runtime.panel.annotators], serves, annotators)
    same_models.check(runtime, names, annotators)
    runtime.version_files.check()
    queues.release_all(connection)  # what stopped the jobs, such as an old token, may be mended now
    runtime.comes_first = tuple(name for name in names if queues.kind(name) != "annotate")
    runtime.readings = tuple(name for name in names if name not in runtime.comes_first)
    jobs.install(runtime)
    stop = threading.Event()
    Worker.runtime = runtime
    work = queues.connect(loaded.queue_url, waiting=True)
    worker = Worker(
        [queues.queue(work, name) for name in names], connection=work,
        name=workers.worker_name(), serializer=JSONSerializer, maintenance_interval=60, worker_ttl=120,
    )  # fmt: skip
    beats = threading.Thread(target=_beat_for_ever, args=(worker, connection, stop), name="beat", daemon=True)
    threads = [threading.Thread(target=_sweep_for_ever, args=(runtime, stop), name="sweep", daemon=True), beats]
    for thread in threads:
        thread.start()
    try:
        worker.work(logging_level="WARNING")  # each job says itself what it did, with its project
    finally:
        stop.set()


if __name__ == "__main__":
    main()
