"""Which workers are alive, on any host: by the heartbeat in the queue, and on this host by the process too.

RQ keeps a row for each worker and lets it expire. Ours expires soon after the last beat, by the server's clock, so that
a host whose clock is wrong is not taken for dead.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path

import psutil
import redis
from rq import SimpleWorker
from rq.worker_registration import WORKERS_BY_QUEUE_KEY, get_keys

BEAT = 4  # seconds between two beats, also in the middle of a job
# Seconds without a beat after which a worker is dead. Five beats: a busy machine may lose some. If it is wrong, a
# reading is asked again for one chunk, and what else runs twice gives the same again.
DEAD_AFTER = 20
_DEAD = "mollm:dead:"
_NAMESPACE = Path("/proc/self/ns/pid")
_PREFIX = SimpleWorker.redis_worker_namespace_prefix


def worker_name() -> str:
    """The name of a worker in this process: its host, pid and start time, by which a dead worker is recognised."""
    process = psutil.Process()
    return f"{_here()}.{os.getpid()}.{int(process.create_time() * 100)}"


def host_of(name: str) -> str:
    """The host of a worker, by its name."""
    return name.rsplit(".", 2)[0]


def here() -> str:
    """This host, as workers' names begin."""
    return _here()


def alive(connection: redis.Redis, name: str) -> bool:
    """Whether the worker of that name still runs: its beat is not over, and on this host its process is there."""
    host, *process = name.rsplit(".", 2)
    if host == _here() and not _runs(*process):
        return False
    ended = connection.hmget(_PREFIX + name, "birth", "death")
    return ended[0] is not None and ended[1] is None


def every(connection: redis.Redis) -> list[str]:
    """The names of the workers that are alive."""
    return _living(connection, get_keys(connection=connection))


def last_beat(connection: redis.Redis) -> float | None:
    """Seconds since the newest beat of any living worker, by the queue's clock; None where none is alive."""
    ages = (DEAD_AFTER - connection.ttl(_PREFIX + name) for name in every(connection))
    return min(map(float, ages), default=None)


def alive_on(connection: redis.Redis, queue: str) -> list[str]:
    """The names of the workers that are alive and serve a queue."""
    keys = connection.smembers(WORKERS_BY_QUEUE_KEY % queue)
    return _living(connection, {key.decode() for key in keys})


def note_dead(connection: redis.Redis, name: str, job: str) -> None:
    """Remember for a day that a worker died, and which job was queued again for it."""
    connection.set(f"{_DEAD}{name}", job, ex=86400)


def dead(connection: redis.Redis) -> dict[str, str]:
    """The workers that died in the last day in the middle of a job, with that job."""
    keys = [key.decode() for key in connection.scan_iter(f"{_DEAD}*", count=1000)]
    return {key.removeprefix(_DEAD): (connection.get(key) or b"").decode() for key in sorted(keys)}


def _living(connection: redis.Redis, keys: set[str]) -> list[str]:
    return [name for name in sorted(key.removeprefix(_PREFIX) for key in keys) if alive(connection, name)]


def _here() -> str:
    """This host; in a container with the same host name as another, pids mean something else, so that is said too."""
    space = _NAMESPACE.stat().st_ino if _NAMESPACE.exists() else 0
    return f"{socket.gethostname()}.{space:x}"


def _runs(pid: str = "", started: str = "") -> bool:
    try:
        return int(psutil.Process(int(pid)).create_time() * 100) == int(started)
    except (psutil.NoSuchProcess, ValueError):
        return False
