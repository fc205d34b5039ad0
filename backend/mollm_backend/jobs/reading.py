"""The chunks of a reading: which texts an annotator is asked for next, and how many at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from mollm_backend.jobs.runtime import Place, Runtime
from mollm_backend.store import signals, tasks
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.tasks import Task
from mollm_backend.work import budget, queues, split

# Texts of the first chunk, and of the largest. A kill asks for one chunk again; what a chunk costs the store hardly
# falls any more beyond 1,024. A very slow LLM, on a busy CPU, comes down to one text.
FEWEST, MOST = 16, 1024
# Seconds that a chunk should take: few, so that a new task does not wait long.
CHUNK_SECONDS = 2.0
# Seconds between two looks at what else there is: newer tasks, workers that came or went.
LOOK_SECONDS = 1.0
# Seconds after which a reading ends where other work waits that comes first: its job goes on after that. For a new
# task in another's part it ends after one chunk.
FREE_AFTER = 3.0
# Seconds for which a reading goes on where it was, rather than from the newest task on again: that walks over all that
# is answered (a million tasks: two seconds), and finds texts that were edited or are to be asked again. It may take
# such a share of the time.
PLACE_SECONDS = 60.0
WALKING = 0.02


@dataclass
class End:
    """`reached`: all that is missing was asked for. `new`: how many of the last chunk's first tasks may be new."""

    reached: bool = False
    new: int = 0


def chunks(
    runtime: Runtime, project: Project, member: PanelMember, part: str, slots: str, end: End
) -> Iterator[tuple[list[Task], Callable[[float], None]]]:
    """The tasks of one chunk after the other, newest first, until all were asked for, the budget is spent, or the job
    is another worker's. Few at once where a chunk may overdraw a budget. A task that comes meanwhile is in a next one.
    `slots`: of the part, those that are this job's.

    With each chunk comes what to tell the seconds that it took to: the next one gets the size for it. `end` is told
    why there are no more.
    """
    fixed = runtime.settings.chunk_texts or (FEWEST if any(budget.limits_of(project.options).values()) else 0)
    size = fixed or runtime.chunk_texts.get(member.fingerprint, FEWEST)
    key = (project.id, member.fingerprint, slots)
    place = runtime.places.pop(key, None)
    if place is None or time.monotonic() > place.until:
        place = Place(time.monotonic() + PLACE_SECONDS, tasks.newest_id(runtime.store, project.id))
    begun = time.monotonic()
    looked = begun if place.before is None else 0.0
    runtime.heard.setdefault(project.id, place.newest)
    if _passes(runtime, project, slots):
        runtime.places[key] = place
        return

    def took(seconds: float) -> None:
        nonlocal size
        runtime.places[key] = replace(place)  # what is not answered is looked for again from here on
        if not fixed:
            size = next_size(size, seconds) if 2 * len(rows) > size else size  # a short chunk says little
            runtime.chunk_texts[member.fingerprint] = size

    def missing(before: int | None = None, after: int | None = None) -> list[Task]:
        return signals.missing(
            runtime.store, project.id, member.fingerprint, size, before=before, after=after,
            slots="" if slots == split.SLOTS else slots,
        )  # fmt: skip

    while queues.still_mine(runtime.connection):
        rows, started = list[Task](), time.monotonic()
        if started - looked > LOOK_SECONDS:
            looked = started
            if (newest := tasks.newest_id(runtime.store, project.id)) > place.newest:
                rows, place.newest = missing(after=place.newest), newest
                if len(rows) == size:  # an import: all goes on from there
                    place.before = rows[-1].task_id
        all_new = 0 < len(rows) < size  # with this chunk all that came lately is read
        end.new = len(rows) if all_new else 0
        if not rows:
            rows, from_above = missing(before=place.before), place.before is None
            end.new = min(len(rows), FEWEST) if from_above else 0
            place.before = rows[-1].task_id if rows else None
            if from_above:
                place.until = max(place.until, time.monotonic() + (time.monotonic() - started) / WALKING)
        if not rows:
            end.reached = True
            runtime.places.pop(key, None)
            return
        if budget.rests(runtime.store, project):
            return
        if not fixed:  # this stands where the job is stopped for its time before the chunk is answered
            runtime.chunk_texts[member.fingerprint] = max(size // 4, 1)
        yield rows, took
        if all_new:
            return  # other workers' readings of them, and of what comes next, wait
        if (now := time.monotonic()) - looked > LOOK_SECONDS:
            if split.wanted(runtime.connection, member.name) != split.size_of(part):
                return  # a worker came or went: all go on in a new split after this chunk
            if _makes_way(runtime, project, now - begun):
                runtime.places[key] = replace(place)
                return


def _makes_way(runtime: Runtime, project: Project, seconds: float) -> bool:
    """Whether other work waits that comes first: other queues, after so many `seconds`, or the readings of the parts in
    which tasks came that nobody has answered. These are brought forward."""
    if seconds > FREE_AFTER and queues.waits(runtime.connection, runtime.comes_first):
        return True
    slots = _new_slots(runtime, project, tasks.newest_id(runtime.store, project.id))
    if not slots or not queues.waits(runtime.connection, runtime.readings):
        return False
    _bring_forward(runtime, project, slots)
    return True


def _passes(runtime: Runtime, project: Project, mine: str) -> bool:
    """Whether a job that begins leaves its turn to the readings of new tasks, of which its own slots, `mine`, have
    none. Once for the same tasks: where they cannot be read now, all others still are."""
    newest = tasks.newest_id(runtime.store, project.id)
    slots = _new_slots(runtime, project, newest)
    if not slots or slots.intersection(mine) or runtime.passed.get(project.id) == newest:
        return False
    runtime.passed[project.id] = newest
    if not queues.waits(runtime.connection, runtime.readings):
        return False
    _bring_forward(runtime, project, slots)
    return True


def _new_slots(runtime: Runtime, project: Project, newest: int) -> set[str]:
    """The slots in which tasks came, up to the `newest`, that nobody has answered."""
    seen = runtime.heard.setdefault(project.id, newest)
    if newest <= seen:
        return set()
    slots = signals.slots_of_new(runtime.store, project.id, [member.fingerprint for member in project.panel], seen)
    if not slots:
        runtime.heard[project.id] = newest
    return slots


def _bring_forward(runtime: Runtime, project: Project, slots: set[str]) -> None:
    """Let the readings of these slots, by whatever annotator, be the next to begin."""
    for annotator in {member.name for member in project.asked}:
        split.bring_forward(runtime.connection, project.id, annotator, slots)


def next_size(size: int, seconds: float) -> int:
    """The number of texts after a chunk of `size` that took so long: at most twice or half as many."""
    return int(min(max(size * min(max(CHUNK_SECONDS / max(seconds, 1e-9), 0.5), 2.0), 1), MOST))
