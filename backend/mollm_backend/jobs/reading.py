"""The chunks of a reading: which texts an annotator is asked for next, and how many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from mollm_backend.jobs.runtime import Runtime
from mollm_backend.store import signals
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.tasks import Task
from mollm_backend.work import budget, queues, split

# Texts of the first chunk, and of the largest. A kill asks for one chunk again; what a chunk costs the store hardly
# falls any more beyond 1,024. A very slow LLM, on a busy CPU, comes down to one text.
FEWEST, MOST = 16, 1024
# Seconds that a chunk should take: half of a job's time, so that a new task does not wait long for a free worker.
CHUNK_SECONDS = 5.0


def chunks(
    runtime: Runtime, project: Project, member: PanelMember, part: str
) -> Iterator[tuple[list[Task], Callable[[float], None]]]:
    """The tasks of one chunk after the other, newest first, until all were asked for, the budget is spent, or the job
    is another worker's. Few at once where a chunk may overdraw a budget.

    With each chunk comes what to tell the seconds that it took to: the next one gets the size for it.
    """
    fixed = runtime.settings.chunk_texts or (FEWEST if any(budget.limits_of(project.options).values()) else 0)
    size, before = fixed or runtime.chunk_texts.get(member.fingerprint, FEWEST), None
    slots = "" if part == split.WHOLE else split.slots(part)

    def took(seconds: float) -> None:
        nonlocal size
        if not fixed:
            size = next_size(size, seconds) if 2 * len(rows) > size else size  # a short chunk says little
            runtime.chunk_texts[member.fingerprint] = size

    while queues.still_mine(runtime.connection):
        rows = signals.missing(runtime.store, project.id, member.fingerprint, size, before=before, slots=slots)
        if not rows or budget.rests(runtime.store, project):
            return
        before = rows[-1].task_id
        if not fixed:  # this stands where the job is stopped for its time before the chunk is answered
            runtime.chunk_texts[member.fingerprint] = max(size // 4, 1)
        yield rows, took
        if split.wanted(runtime.connection, member.name) != split.size_of(part):
            return  # a worker came or went: all go on in a new split after this chunk


def next_size(size: int, seconds: float) -> int:
    """The number of texts after a chunk of `size` that took so long: at most twice or half as many."""
    return int(min(max(size * min(max(CHUNK_SECONDS / max(seconds, 1e-9), 0.5), 2.0), 1), MOST))
