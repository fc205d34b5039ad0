"""The worker process: takes jobs one after another and keeps the models warm between them.

RQ's SimpleWorker is chosen on purpose: it runs jobs in this process. A forking worker would load every model
again for each job and would carry CUDA across a fork, which CUDA does not survive.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import Any

import redis
import structlog
from rq import SimpleWorker
from rq.serializers import JSONSerializer
from sqlalchemy.exc import SQLAlchemyError

from mollm.errors import MollmError
from mollm_backend import jobs, logs, settings
from mollm_backend.jobs import due
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.store import Store, projects
from mollm_backend.work import queues

log = structlog.get_logger()
# What passes by itself: a busy or restarting database or queue.
TRANSIENT = (redis.RedisError, SQLAlchemyError, MollmError)


class Worker(SimpleWorker):  # type: ignore[misc]
    """After each job it queues what the store lacks, so that work never waits for the next sweep."""

    runtime: Runtime

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
        self._ordered_queues = sorted(self.queues, key=lambda queue: names.index(queue.name))

    def execute_job(self, job: Any, queue: Any) -> None:
        super().execute_job(job, queue)
        project_id = job.args[0] if job.args else None
        try:
            project = projects.find(self.runtime.store, project_id) if isinstance(project_id, int) else None
            if project is not None and project.connected:
                due.sweep_project(self.runtime, project)
        except TRANSIENT as error:
            log.warning("the sweep after a job was put off", error=str(error))  # the next regular one makes it good


def _sweep_for_ever(runtime: Runtime, stop: threading.Event) -> None:
    """At start and every `sweep_seconds`: forget jobs of dead workers, queue what is missing."""
    first = True
    while True:
        try:
            for identity in queues.reap(runtime.connection):
                log.warning("a job was lost with its worker", job=identity)
            due.sweep(runtime, reconcile=first)
            first = False
        except TRANSIENT as error:
            log.warning("sweep put off", error=str(error))
        if stop.wait(runtime.settings.sweep_seconds):
            return


def limit_threads() -> None:
    """Leave one core to the people: torch and BLAS take the others, and the worker is nice."""
    threads = str(max(1, (os.cpu_count() or 2) - 1))
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(name, threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.nice(max(0, 10 - os.nice(0)))


def main() -> None:
    """Run one worker until SIGTERM or SIGINT."""
    limit_threads()
    loaded = settings.load()
    logs.set_up(loaded.log_level)
    logs.set_up_libraries(loaded.log_level)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # its lines carry whole URLs
    connection = queues.connect(loaded.queue_url)
    runtime = Runtime(loaded, Store(loaded.store_url), connection)
    jobs.install(runtime)
    stop = threading.Event()
    threading.Thread(target=_sweep_for_ever, args=(runtime, stop), name="sweep", daemon=True).start()
    Worker.runtime = runtime
    work = queues.connect(loaded.queue_url, waiting=True)
    worker = Worker(
        [queues.queue(work, name) for name in queues.QUEUES], connection=work,
        name=queues.worker_name(), serializer=JSONSerializer, maintenance_interval=60, worker_ttl=120,
    )  # fmt: skip
    try:
        worker.work(logging_level=loaded.log_level)
    finally:
        stop.set()


if __name__ == "__main__":
    main()
