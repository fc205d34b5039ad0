"""How far the reading is. Counting walks over all tasks, so a worker counts and web pages read what it noted.

How far each long work is (a training, a reading, ...) is in `running`, as `mollm_backend.work.noting` notes it.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace

import redis

from mollm_backend.store import Store, labels, signals, tasks
from mollm_backend.store.projects import Project
from mollm_backend.work.noting import Running, noted, running

__all__ = ["Progress", "Running", "count", "in_words", "newest", "note", "noted", "running"]

KEPT_SECONDS = 120  # a worker notes it after each job and at each sweep


@dataclass(frozen=True, slots=True)
class Progress:
    """Of a project's tasks, how many cannot be read, and by fingerprint how many wait for an annotator: in all, and by
    the first digit of their text's key. `closed`: readable tasks that people have labelled or skipped.
    `people` labels were given, `how` by the way in which the annotations came about."""

    tasks: int
    unreadable: int
    left: dict[str, int]
    slots: dict[str, dict[str, int]] = field(default_factory=dict)
    closed: int = 0
    people: int = 0
    how: dict[str, int] = field(default_factory=dict)

    @property
    def readable(self) -> int:
        return self.tasks - self.unreadable

    @property
    def answered(self) -> int:
        """How many answers of the panel the readable tasks have, over all annotators."""
        return len(self.left) * self.readable - sum(self.left.values())

    @property
    def read(self) -> int:
        """How many tasks the annotator that has answered most has answered."""
        return self.readable - min(self.left.values(), default=self.readable)

    @property
    def silent(self) -> list[str]:
        """The fingerprints of those that have answered nothing yet."""
        return [fingerprint for fingerprint, left in self.left.items() if left == self.readable]

    def plus(self, newer: Progress) -> Progress:
        """With the tasks that came since, counted later."""
        slots = {one: dict(Counter(self.slots.get(one, {})) + Counter(more)) for one, more in newer.slots.items()}
        left = {one: self.left.get(one, 0) + more for one, more in newer.left.items()}
        tasks, unreadable = self.tasks + newer.tasks, self.unreadable + newer.unreadable
        return replace(newer, tasks=tasks, unreadable=unreadable, left=left, slots=slots)

    def left_by_name(self, project: Project) -> dict[str, int]:
        """How many answers each annotator still owes, over all questions."""
        found = dict.fromkeys((member.name for member in project.panel), 0)
        for member in project.asked:
            found[member.name] += self.left.get(member.fingerprint, 0)
        return found


def count(store: Store, project: Project, *, after: int = -1) -> Progress:
    """Count now. `after`: only tasks after this one; of what people did, all."""
    prints = [member.fingerprint for member in project.panel]
    slots = {one: signals.unanswered_by_slot(store, project.id, one, after=after) for one in prints}
    left = {one: sum(slots[one].values()) for one in prints}
    said = labels.counts(store, project.id)
    return Progress(*tasks.count(store, project.id, after=after), left, slots, said.closed, said.labels, said.how)


def note(connection: redis.Redis, project: Project, progress: Progress) -> None:
    """Keep what was counted for the status page, which must not count."""
    connection.set(_key(project), json.dumps(asdict(progress)), ex=KEPT_SECONDS)


def newest(store: Store, connection: redis.Redis, project: Project) -> Progress:
    """What was noted last for this panel; counted where no worker has noted anything lately."""
    return of_all(store, connection, [project])[project.id]


def of_all(store: Store, connection: redis.Redis, projects: Sequence[Project]) -> dict[int, Progress]:
    """`newest` of several projects, by their ids, in one round trip. What must be counted is noted for the next."""
    try:
        found = of_noted(connection, projects)
    except redis.RedisError:
        found = {}
    for project in projects:
        if project.id not in found:
            found[project.id] = count(store, project)
            with suppress(redis.RedisError):
                note(connection, project, found[project.id])
    return found


def of_noted(connection: redis.Redis, projects: Sequence[Project]) -> dict[int, Progress]:
    """By project, what a worker noted lately of its panel; a project of which nothing is known is left out."""
    rows = connection.mget([_key(project) for project in projects]) if projects else []
    known = {project.id: Progress(**json.loads(row)) for project, row in zip(projects, rows, strict=True) if row}
    panels = {project.id: {member.fingerprint for member in project.panel} for project in projects}
    return {number: found for number, found in known.items() if set(found.left) == panels[number]}


def in_words(left: Mapping[str, int], owed: str) -> str:
    """Who of the panel still owes how many answers (`left`, by name), in words; `owed` ends them, such as "to read"."""
    if not left:
        return "the panel has yet to start"
    waiting = [f"{name} has {count} {owed}" for name, count in left.items() if count]
    return ", ".join(waiting) or "the panel has read all"


def _key(project: Project) -> str:
    return f"mollm:progress:{project.id}"
