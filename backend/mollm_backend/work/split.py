"""How a reading is split among workers: by the first digit of a text's key, so that no text is in two parts.

A split has 1, 2, 4, 8 or 16 parts; each part of a reading is one job. Which split is in force is noted in the queue,
and it is changed only while no job of it waits or runs: two splits at once would ask for the same texts.
"""

from __future__ import annotations

from collections.abc import Container
from contextlib import suppress

import redis

from mollm_backend.work import queues, workers

SLOTS = "0123456789abcdef"  # the first digits of a text's key
WHOLE = ""  # the only part of a reading that is not split


def wanted(connection: redis.Redis, annotator: str) -> int:
    """Into how many parts the readings of an annotator should be split now, for the workers that serve it."""
    return size_for(len(workers.alive_on(connection, queues.reading(annotator))))


def size_for(serving: int) -> int:
    """Into how many parts to split for so many workers: as many, or up to twice as many."""
    return next((size for size in (1, 2, 4, 8) if size >= serving), len(SLOTS))


def size_of(part: str) -> int:
    """How many parts the split has that a part is of."""
    return 1 if part == WHOLE else int(part.partition("of")[2])


def parts(size: int) -> list[str]:
    """The names of the parts, as jobs have them for an argument: `1of2`, `2of2`."""
    return [WHOLE] if size == 1 else [f"{n}of{size}" for n in range(1, size + 1)]


def slots(part: str) -> str:
    """The first digits of the keys of a part's texts."""
    if part == WHOLE:
        return SLOTS
    number, width = int(part.partition("of")[0]), len(SLOTS) // size_of(part)
    return SLOTS[(number - 1) * width : number * width]


def in_force(connection: redis.Redis, project_id: int, annotator: str, part: str) -> bool:
    """Whether a part is one of the split in force. A job of another does nothing."""
    return part in parts(int(connection.get(_key(project_id, annotator)) or 1))


def agree(connection: redis.Redis, project_id: int, annotator: str, size: int) -> bool:
    """Put the split into `size` parts in force, and say whether it is. Not while jobs of another one are left."""
    key = _key(project_id, annotator)
    before = int(connection.get(key) or 1)
    if before == size:
        return True
    old = [queues.job_id("annotate", project_id, annotator, *filter(None, [part])) for part in parts(before)]
    if not all(queues.gone(connection, identity) for identity in old):
        return False
    with connection.pipeline() as pipeline:
        jobs = [queues.row(identity) for identity in old]
        pipeline.watch(key, *jobs)
        if int(pipeline.get(key) or 1) != before or pipeline.exists(*jobs):
            return False
        pipeline.multi()
        pipeline.set(key, size)
        try:
            pipeline.execute()
        except redis.WatchError:
            return False
    return True


def bring_forward(connection: redis.Redis, project_id: int, annotator: str, wanted: Container[str]) -> None:
    """Let those parts of a reading be the next to begin that have `wanted` slots: somebody may wait for their texts.
    Nothing happens while the queue is away."""
    with suppress(redis.RedisError):
        for part in parts(int(connection.get(_key(project_id, annotator)) or 1)):
            if any(slot in wanted for slot in slots(part)):
                identity = queues.job_id("annotate", project_id, annotator, *filter(None, [part]))
                queues.bring_forward(connection, queues.reading(annotator), identity)


def _key(project_id: int, annotator: str) -> str:
    return f"mollm:split:{project_id}:{annotator}"
