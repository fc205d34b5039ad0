"""The work queues: RQ on Valkey. The queue carries work, the store says what is missing; losing a queue loses nothing.

Jobs are named by their path as text, so that the web process enqueues them without importing what they need.
Every job has a deterministic id: the same work never waits twice and never runs twice at once.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import psutil
import redis
from rq import Queue, Worker
from rq.exceptions import DuplicateJobError, NoSuchJobError
from rq.job import Job, JobStatus
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer

# In the order in which a free worker takes them: people wait for the first three.
QUEUES = ("train", "publish", "reconcile", "annotate")
# Seconds that a job may take before it is stopped. Only training is long: a round may tune an encoder for minutes, and
# does so once for every decision of its project.
TIMEOUTS = {"train": 6 * 3600, "publish": 300, "reconcile": 900, "annotate": 300}
_OVER = (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED)


def connect(url: str, *, waiting: bool = False) -> redis.Redis:
    """A connection to Valkey or Redis. Commands give up after seconds, so that a request never hangs on it;
    `waiting` is for a worker, which waits for work as long as it takes."""
    return redis.Redis.from_url(url, socket_connect_timeout=2, socket_timeout=None if waiting else 10)


def queue(connection: redis.Redis, name: str) -> Queue:
    """A queue by name; its jobs are JSON, and end after the time that this kind of work may take."""
    return Queue(name, connection=connection, serializer=JSONSerializer, default_timeout=TIMEOUTS[name])


def job_id(name: str, *args: int | str) -> str:
    """The same work has the same id, so that it waits in the queue once."""
    return "-".join([name, *(str(arg) for arg in args)])


def enqueue(connection: redis.Redis, queue_name: str, name: str, *args: int | str) -> bool:
    """Queue `mollm_backend.jobs.<name>(*args)` unless the same work waits or runs. True where it was queued."""
    jobs = queue(connection, queue_name)
    identity = job_id(name, *args)
    for _attempt in range(2):
        try:
            jobs.enqueue_call(
                f"mollm_backend.jobs.{name}", args=args, job_id=identity, unique=True,
                timeout=TIMEOUTS[queue_name], result_ttl=0, failure_ttl=3600,
            )  # fmt: skip
            return True
        except DuplicateJobError:
            if not _forget_if_over(connection, jobs, identity):
                return False
    return False


def enqueued(connection: redis.Redis, name: str, *args: int | str) -> bool:
    """Whether that work waits or runs."""
    return bool(Job.exists(job_id(name, *args), connection=connection))


def _forget_if_over(connection: redis.Redis, jobs: Queue, identity: str) -> bool:
    """Remove a job of that id that will never run again (done, failed, or lost with its worker)."""
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
    """Say that something happened in a project: one counter and one waiting job, however many events come.

    One round trip for most events: while a job waits that has not begun to look, nothing more is queued.
    """
    pipeline = connection.pipeline(transaction=False)
    pipeline.incr(f"mollm:events:{project_id}")
    pipeline.set(f"mollm:nudged:{project_id}", "1", nx=True, ex=10)
    if pipeline.execute()[1]:
        enqueue(connection, "reconcile", "reconcile", project_id)


def begin_nudges(connection: redis.Redis, project_id: int) -> int:
    """A reconciliation begins to look: later events queue another one. Returns the events that it covers."""
    connection.delete(f"mollm:nudged:{project_id}")
    return nudges(connection, project_id)


def nudges(connection: redis.Redis, project_id: int) -> int:
    """How many events of the project have come."""
    return int(connection.get(f"mollm:events:{project_id}") or 0)


def nudges_done(connection: redis.Redis, project_id: int) -> int:
    """How many of them a reconciliation has looked at."""
    return int(connection.get(f"mollm:events-done:{project_id}") or 0)


def finish_nudges(connection: redis.Redis, project_id: int, count: int) -> None:
    """All events up to `count` are covered by a reconciliation that began after them."""
    connection.set(f"mollm:events-done:{project_id}", count)


def request_training(connection: redis.Redis, project_id: int) -> None:
    """A person asked for training: it starts after the next reconciliation, however few labels are new."""
    nudge(connection, project_id)
    connection.set(f"mollm:train:{project_id}", nudges(connection, project_id), ex=86400)


def training_requested(connection: redis.Redis, project_id: int) -> int:
    """The request that waits, named by the number of events up to it; 0 where none does."""
    asked = connection.get(f"mollm:train:{project_id}")
    return 0 if asked is None or asked == connection.get(f"mollm:train-done:{project_id}") else int(asked)


def training_answered(connection: redis.Redis, project_id: int, request: int) -> None:
    """All labels that were given before this request have been trained on; one that came later still waits."""
    connection.set(f"mollm:train-done:{project_id}", request, ex=86400)


def hold(connection: redis.Redis, identity: str) -> float:
    """Put off a job that failed, for twice as long each time (30 s to 1 h). Returns the seconds."""
    failures = int(connection.incr(f"mollm:failures:{identity}"))
    connection.expire(f"mollm:failures:{identity}", 7200)
    seconds = min(30 * 2 ** (failures - 1), 3600)
    connection.set(f"mollm:hold:{identity}", "1", ex=seconds)
    return float(seconds)


def held(connection: redis.Redis, identity: str) -> bool:
    """Whether a job that failed has to wait still."""
    return bool(connection.exists(f"mollm:hold:{identity}"))


def release(connection: redis.Redis, identity: str) -> None:
    """Forget the failures: the job was done."""
    connection.delete(f"mollm:hold:{identity}", f"mollm:failures:{identity}")


def failing(connection: redis.Redis) -> dict[str, int]:
    """How often in a row each job failed that has not been done since, by its id."""
    prefix = "mollm:failures:"
    keys = [key.decode() for key in connection.scan_iter(f"{prefix}*", count=1000)]
    return {key.removeprefix(prefix): int(connection.get(key) or 0) for key in keys}


def release_all(connection: redis.Redis) -> None:
    """Forget every failure: a person has started us again, so all is tried at once."""
    for identity in failing(connection):
        release(connection, identity)


def workers(connection: redis.Redis) -> list[str]:
    """The names of the workers that live."""
    return [name for name in map(str, (row.name for row in Worker.all(connection=connection))) if worker_alive(name)]


def worker_name() -> str:
    """A worker's name says where it runs and since when, so that a dead one is known for dead at once."""
    process = psutil.Process()
    return f"{socket.gethostname()}.{os.getpid()}.{int(process.create_time() * 100)}"


def worker_alive(name: str) -> bool:
    """Whether the worker of that name still runs; True for other hosts (RQ's own timeouts decide there)."""
    host, pid, started = name.rsplit(".", 2)
    if host != socket.gethostname():
        return True
    try:
        return int(psutil.Process(int(pid)).create_time() * 100) == int(started)
    except (psutil.NoSuchProcess, ValueError):
        return False


def reap(connection: redis.Redis) -> list[str]:
    """Forget started jobs whose worker is dead; the sweep queues again what the store lacks. Returns their ids."""
    lost = []
    for name in QUEUES:
        jobs = queue(connection, name)
        registry = StartedJobRegistry(queue=jobs)
        for identity in registry.get_job_ids(cleanup=False):
            if _forget_if_over(connection, jobs, identity):
                lost.append(identity)
    return lost


def waiting(connection: redis.Redis) -> dict[str, Any]:
    """What waits and what runs, for the status page."""
    return {
        name: {
            "waiting": queue(connection, name).count,
            "running": StartedJobRegistry(queue=queue(connection, name)).get_job_ids(cleanup=False),
        }
        for name in QUEUES
    }
