"""The work queues: RQ on Valkey or Redis. The store knows what is missing, so that a lost queue loses no work.

A job names its function as text, so that the web process can queue it without importing what it needs.
Every job has a deterministic id: the same work never waits twice and never runs twice at once.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import Any

import psutil
import redis
from rq import Queue, Worker
from rq.exceptions import DuplicateJobError, NoSuchJobError
from rq.job import Job, JobStatus
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer

# In the order in which a free worker takes them. People wait for the results of the first three.
QUEUES = ("train", "publish", "reconcile", "annotate")
# Seconds after which a job is stopped. Training is long: a round may tune an encoder for minutes, for each decision.
# The others are guesses, long enough for a slow machine; an annotate job should take less than 30 s.
TIMEOUTS = {"train": 6 * 3600, "publish": 300, "reconcile": 900, "annotate": 300}
_OVER = (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED)  # such a job never runs again


def connect(url: str, *, waiting: bool = False) -> redis.Redis:
    """A connection to Valkey or Redis. A command fails after 10 s, so that no web request hangs.
    `waiting` is for a worker: it may wait for work without a limit."""
    return redis.Redis.from_url(url, socket_connect_timeout=2, socket_timeout=None if waiting else 10)


def queue(connection: redis.Redis, name: str) -> Queue:
    """A queue by name. Its jobs are JSON, and are stopped after the queue's time in `TIMEOUTS`."""
    return Queue(name, connection=connection, serializer=JSONSerializer, default_timeout=TIMEOUTS[name])


def job_id(name: str, *args: int | str) -> str:
    """A job's id. The same work has the same id, so that it waits only once."""
    return "-".join([name, *(str(arg) for arg in args)])


def of_project(jobs: Iterable[str], project_id: int) -> list[str]:
    """Those of the jobs' ids that are of this project: a job's first argument is its project."""
    return [identity for identity in jobs if identity.split("-")[1:2] == [str(project_id)]]


def enqueue(
    connection: redis.Redis, queue_name: str, name: str, *args: int | str, identity: str = "", ttl: int | None = None
) -> bool:
    """Queue `mollm_backend.jobs.<name>(*args)` unless the same work waits or runs. True if it was queued.

    `identity`: its id, where `job_id` would hold what no id may. `ttl`: seconds after which it is not begun any more.
    """
    jobs = queue(connection, queue_name)
    identity = identity or job_id(name, *args)
    for _attempt in range(2):
        try:
            jobs.enqueue_call(
                f"mollm_backend.jobs.{name}", args=args, job_id=identity, unique=True,
                timeout=TIMEOUTS[queue_name], result_ttl=0, failure_ttl=3600, ttl=ttl,
            )  # fmt: skip
            return True
        except DuplicateJobError:
            if not _forget_if_over(connection, jobs, identity):
                return False
    return False


def enqueued(connection: redis.Redis, name: str, *args: int | str) -> bool:
    """Whether this work waits or runs."""
    return bool(Job.exists(job_id(name, *args), connection=connection))


def _forget_if_over(connection: redis.Redis, jobs: Queue, identity: str) -> bool:
    """Delete the job of this id if it will never run (again). True if no such job is left."""
    try:
        job = Job.fetch(identity, connection=connection, serializer=JSONSerializer)
    except NoSuchJobError:
        return True
    status = job.get_status(refresh=False)
    lost = status == JobStatus.STARTED and job.worker_name is not None and not worker_alive(job.worker_name)
    dropped = status == JobStatus.QUEUED and jobs.get_job_position(identity) is None
    if status in _OVER or lost or dropped:
        job.delete()
        return True
    return False


def nudge(connection: redis.Redis, project_id: int) -> None:
    """Note that something happened in a project. It counts the event, and queues one reconciliation for many events.

    Most events take one round trip: while a reconciliation waits that has not begun, no other is queued.
    """
    pipeline = connection.pipeline(transaction=False)
    pipeline.incr(f"mollm:events:{project_id}")
    pipeline.set(f"mollm:nudged:{project_id}", "1", nx=True, ex=10)
    if pipeline.execute()[1]:
        enqueue(connection, "reconcile", "reconcile", project_id)


def begin_nudges(connection: redis.Redis, project_id: int) -> int:
    """Call this when a reconciliation begins: later events queue another. Returns the number of events so far."""
    connection.delete(f"mollm:nudged:{project_id}")
    return nudges(connection, project_id)


def nudges(connection: redis.Redis, project_id: int) -> int:
    """How many events of the project have arrived."""
    return int(connection.get(f"mollm:events:{project_id}") or 0)


def nudges_done(connection: redis.Redis, project_id: int) -> int:
    """How many of these events a finished reconciliation covers."""
    return int(connection.get(f"mollm:events-done:{project_id}") or 0)


def finish_nudges(connection: redis.Redis, project_id: int, count: int) -> None:
    """Store that a reconciliation, which began after the first `count` events, has finished."""
    connection.set(f"mollm:events-done:{project_id}", count)


def request_training(connection: redis.Redis, project_id: int) -> None:
    """Store that a person asked for training. It follows the next reconciliation, even with few new labels."""
    nudge(connection, project_id)
    connection.set(f"mollm:train:{project_id}", nudges(connection, project_id), ex=86400)


def training_requested(connection: redis.Redis, project_id: int) -> int:
    """The training request that waits (its number is the number of events before it); 0 if there is none."""
    asked = connection.get(f"mollm:train:{project_id}")
    return 0 if asked is None or asked == connection.get(f"mollm:train-done:{project_id}") else int(asked)


def training_answered(connection: redis.Redis, project_id: int, request: int) -> None:
    """Store that a training with all labels before this request has ended. A later request still waits."""
    connection.set(f"mollm:train-done:{project_id}", request, ex=86400)


def hold(connection: redis.Redis, identity: str) -> float:
    """Delay a job that failed, for twice as long each time (30 s to 1 h). Returns the delay in seconds."""
    failures = int(connection.incr(f"mollm:failures:{identity}"))
    connection.expire(f"mollm:failures:{identity}", 7200)
    seconds = min(30 * 2 ** (failures - 1), 3600)
    connection.set(f"mollm:hold:{identity}", "1", ex=seconds)
    return float(seconds)


def held(connection: redis.Redis, identity: str) -> bool:
    """Whether a job that failed must still wait."""
    return bool(connection.exists(f"mollm:hold:{identity}"))


def release(connection: redis.Redis, identity: str) -> None:
    """Forget the failures of a job that has succeeded."""
    connection.delete(f"mollm:hold:{identity}", f"mollm:failures:{identity}")


def failing(connection: redis.Redis) -> dict[str, int]:
    """By job id, how often the job has failed since it last succeeded."""
    prefix = "mollm:failures:"
    keys = [key.decode() for key in connection.scan_iter(f"{prefix}*", count=1000)]
    return {key.removeprefix(prefix): int(connection.get(key) or 0) for key in keys}


def release_all(connection: redis.Redis) -> None:
    """Forget every failure, so that all work is tried at once; for a new start of `mollm up`."""
    for identity in failing(connection):
        release(connection, identity)


def workers(connection: redis.Redis) -> list[str]:
    """The names of the workers that are alive."""
    return [name for name in map(str, (row.name for row in Worker.all(connection=connection))) if worker_alive(name)]


def worker_name() -> str:
    """The name of a worker in this process: its host, pid and start time, by which a dead worker is recognised."""
    process = psutil.Process()
    return f"{socket.gethostname()}.{os.getpid()}.{int(process.create_time() * 100)}"


def worker_alive(name: str) -> bool:
    """Whether the worker of that name still runs. True for another host: RQ's own timeouts decide there."""
    host, pid, started = name.rsplit(".", 2)
    if host != socket.gethostname():
        return True
    try:
        return int(psutil.Process(int(pid)).create_time() * 100) == int(started)
    except (psutil.NoSuchProcess, ValueError):
        return False


def reap(connection: redis.Redis) -> list[str]:
    """Delete started jobs whose worker is dead. Returns their ids; the sweep queues again what the store lacks."""
    lost = []
    for name in QUEUES:
        jobs = queue(connection, name)
        registry = StartedJobRegistry(queue=jobs)
        for identity in registry.get_job_ids(cleanup=False):
            if _forget_if_over(connection, jobs, identity):
                lost.append(identity)
    return lost


def waiting(connection: redis.Redis) -> dict[str, Any]:
    """For each queue, how many jobs wait and which jobs run; for the status page."""
    return {
        name: {
            "waiting": queue(connection, name).count,
            "running": StartedJobRegistry(queue=queue(connection, name)).get_job_ids(cleanup=False),
        }
        for name in QUEUES
    }
