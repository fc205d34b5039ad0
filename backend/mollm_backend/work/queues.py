"""The work queues: RQ on Valkey or Redis. The store knows what is missing, so that a lost queue loses no work.

A job names its function as text, so that the web process can queue it without importing what it needs.
Every job has a deterministic id: the same work never waits twice and never runs twice at once.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import redis
from rq import Queue, get_current_job
from rq.exceptions import DuplicateJobError, NoSuchJobError
from rq.job import Job, JobStatus
from rq.registry import StartedJobRegistry
from rq.serializers import JSONSerializer
from rq.timeouts import JobTimeoutException
from rq.utils import utcformat

from mollm_backend.work.workers import alive, note_dead

# In the order in which a free worker takes them. People wait for the results of the first three. The readings of each
# annotator have a queue of their own (`reading`), for those workers that serve it.
QUEUES = ("train", "publish", "reconcile", "annotate")
# Seconds after which a job is stopped. Training is long: a round may tune an encoder for minutes, for each decision.
# The others are guesses, long enough for a slow machine; an annotate job should take less than 30 s.
TIMEOUTS = {"train": 6 * 3600, "publish": 300, "reconcile": 900, "annotate": 300}
# A job that waits in no queue was dropped by a worker that died just then, if it is so for this time. Between taking
# a job and starting it a worker needs milliseconds; a machine that swaps may need seconds.
DROPPED_AFTER = 10
TookTooLong = JobTimeoutException  # a job that ran longer than its queue's time in TIMEOUTS
_KNOWN = Queue.redis_queues_keys
_UNPLACED_KEPT = 600  # seconds for which it is remembered since when a job has no place; longer than two sweeps
_OVER = (JobStatus.FINISHED, JobStatus.FAILED, JobStatus.STOPPED, JobStatus.CANCELED)  # such a job never runs again


def connect(url: str, *, waiting: bool = False) -> redis.Redis:
    """A connection to Valkey or Redis. A command fails after 10 s, so that no web request hangs.
    `waiting` is for a worker: it may wait for work without a limit."""
    return redis.Redis.from_url(url, socket_connect_timeout=2, socket_timeout=None if waiting else 10)


def queue(connection: redis.Redis, name: str) -> Queue:
    """A queue by name. Its jobs are JSON, and are stopped after the queue's time in `TIMEOUTS`."""
    return Queue(name, connection=connection, serializer=JSONSerializer, default_timeout=TIMEOUTS[kind(name)])


def reading(annotator: str) -> str:
    """The name of the queue of one annotator's readings."""
    return f"annotate.{annotator}"


def kind(name: str) -> str:
    """Which of `QUEUES` a queue is, or is a part of."""
    return name.partition(".")[0]


def every(connection: redis.Redis) -> list[str]:
    """The names of all queues in which something may wait or run."""
    known = {key.decode().removeprefix(Queue.redis_queue_namespace_prefix) for key in connection.smembers(_KNOWN)}
    return [*QUEUES, *sorted(name for name in known if name.startswith(reading("")))]


def job_id(name: str, *args: int | str) -> str:
    """A job's id. The same work has the same id, so that it waits only once. RQ takes letters, digits, _ and -."""
    return re.sub(r"[^A-Za-z0-9_-]", lambda sign: f"_{ord(sign[0]):x}_", "-".join([name, *map(str, args)]))


def row(identity: str) -> str:
    """The key under which the queue holds a job."""
    return str(Job.key_for(identity))


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
                timeout=TIMEOUTS[kind(queue_name)], result_ttl=0, failure_ttl=3600, ttl=ttl,
            )  # fmt: skip
            return True
        except DuplicateJobError:
            if not _forget_if_over(connection, jobs, identity):
                return False
    return False


def enqueued(connection: redis.Redis, name: str, *args: int | str) -> bool:
    """Whether this work waits or runs."""
    return bool(Job.exists(job_id(name, *args), connection=connection))


def bring_forward(connection: redis.Redis, queue_name: str, identity: str) -> None:
    """Let the job of this id be the next of its queue, if it waits there."""
    key = queue(connection, queue_name).key
    with connection.pipeline() as pipeline:
        pipeline.watch(key)
        if pipeline.lpos(key, identity) is None:
            return
        pipeline.multi()
        pipeline.lrem(key, 1, identity)
        pipeline.lpush(key, identity)
        with contextlib.suppress(redis.WatchError):  # the queue moved on meanwhile
            pipeline.execute()


def gone(connection: redis.Redis, identity: str) -> bool:
    """Whether the job of this id neither waits nor runs. What is over, or lost with its worker, is deleted first."""
    origin = connection.hget(row(identity), "origin")
    return origin is None or _forget_if_over(connection, queue(connection, origin.decode()), identity)


def _forget_if_over(connection: redis.Redis, jobs: Queue, identity: str) -> bool:
    """Delete the job of this id if it will never run (again). True if no such job is left.

    What was looked at and what is deleted are the same job: if another process changes it meanwhile, it stays.
    """
    with connection.pipeline() as pipeline:
        pipeline.watch(row(identity))
        try:
            job = Job.fetch(identity, connection=connection, serializer=JSONSerializer)
        except NoSuchJobError:
            return True
        status = job.get_status(refresh=False)
        lost = status == JobStatus.STARTED and job.worker_name is not None and not alive(connection, job.worker_name)
        if not (status in _OVER or lost or (status == JobStatus.QUEUED and _dropped(connection, jobs, job))):
            return False
        pipeline.multi()
        job.delete(pipeline=pipeline)
        # A worker of one queue alone moves a job here before it starts it; it would be found there and failed later.
        pipeline.lrem(jobs.intermediate_queue_key, 0, identity)
        pipeline.delete(_unplaced(identity), jobs.intermediate_queue.get_first_seen_key(identity))
        try:
            pipeline.execute()
        except redis.WatchError:
            return False
    if lost:
        note_dead(connection, str(job.worker_name), identity)
    return True


def _dropped(connection: redis.Redis, jobs: Queue, job: Job) -> bool:
    """Whether a job that should wait has had no place in its queue for `DROPPED_AFTER` seconds, seen by the server's
    clock. A worker takes a job out of the queue first and marks it started then: without the wait it would be taken
    for lost in between, and run twice."""
    if jobs.get_job_position(job.id) is not None:
        return False
    key, stamp = _unplaced(job.id), utcformat(job.enqueued_at)
    if connection.set(key, stamp, nx=True, ex=_UNPLACED_KEPT):
        return False
    if connection.get(key) != stamp.encode():  # that was an earlier job of this id
        connection.set(key, stamp, ex=_UNPLACED_KEPT)
        return False
    return bool(_UNPLACED_KEPT - connection.ttl(key) >= DROPPED_AFTER)


def _unplaced(identity: str) -> str:
    return f"mollm:unplaced:{identity}"


def still_waits(connection: redis.Redis, job: Job) -> bool:
    """Whether a job that was just taken from its queue is still this one: it may have been taken for dropped."""
    return bool(connection.hget(job.key, "enqueued_at") == utcformat(job.enqueued_at).encode())


def still_mine(connection: redis.Redis) -> bool:
    """Whether the job that runs in this process is still this worker's. Not so if the worker was taken for dead, or
    the queue was emptied: then another may run the same job. True outside a job, and while the queue is away."""
    job = get_current_job()
    if job is None:
        return True
    try:
        status, name = connection.hmget(job.key, "status", "worker_name")
    except redis.RedisError:
        return True
    return bool(status == JobStatus.STARTED.value.encode() and name == str(job.worker_name).encode())


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


def reap(connection: redis.Redis) -> dict[str, str]:
    """Delete started jobs whose worker is dead. Returns by their ids the worker; the sweep queues again what the store
    lacks."""
    lost = {}
    for name in every(connection):
        jobs = queue(connection, name)
        for identity in set(StartedJobRegistry(queue=jobs).get_job_ids(cleanup=False)):
            worker = connection.hget(row(identity), "worker_name")
            if worker is not None and _forget_if_over(connection, jobs, identity):
                lost[identity] = worker.decode()
    return lost


def waits(connection: redis.Redis, names: Iterable[str]) -> bool:
    """Whether any job waits in these queues. False while the queue's server is away."""
    try:
        return any(queue(connection, name).count for name in names)
    except redis.RedisError:
        return False


def oldest(connection: redis.Redis, name: str) -> float:
    """Since how many seconds the oldest job of one of `QUEUES` waits; 0 where none does."""
    found = 0.0
    for part in every(connection):
        first = queue(connection, part).get_job_ids(0, 1) if kind(part) == name else []
        for identity in first:
            with contextlib.suppress(NoSuchJobError):
                since = Job.fetch(identity, connection=connection, serializer=JSONSerializer).enqueued_at
                found = max(found, (datetime.now(UTC) - since).total_seconds() if since else 0.0)
    return found


def waiting(connection: redis.Redis) -> dict[str, Any]:
    """For each of `QUEUES`, how many jobs wait and which jobs run; for the status page."""
    found: dict[str, Any] = {name: {"waiting": 0, "running": []} for name in QUEUES}
    for name in every(connection):
        jobs, state = queue(connection, name), found[kind(name)]
        state["waiting"] += jobs.count
        state["running"] += StartedJobRegistry(queue=jobs).get_job_ids(cleanup=False)
    return found
