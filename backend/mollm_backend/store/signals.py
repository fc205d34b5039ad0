"""The signal cache: no annotator is asked twice for the same text, prompt and labels; and what it cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import sqlalchemy as sa

from mollm.records import FloatArray, Signals
from mollm.signals import yes_or_no
from mollm_backend.store import Store, in_chunks, now, one_lock, one_trip, put, revisions
from mollm_backend.store.decisions import Decision
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.schema import absences, ledger, signals, tasks
from mollm_backend.store.tasks import Task, from_row

NEW = 100  # tasks for which a reading looks whether somebody may wait: more at once are an import
_SLOT = sa.func.substr(tasks.c.text_key, 1, 1)


@dataclass(frozen=True, slots=True)
class SignalRow:
    """One annotator's answer for one text: `label_probs` (C,) and `votes` (C,), stored as float32."""

    text_key: str
    label_probs: FloatArray
    votes: FloatArray
    abstained: float = 0.0
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Cost:
    """What a number of calls to one annotator cost: tokens, and seconds of its time."""

    calls: int = 0
    texts: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    abstained: float = 0.0
    truncated: int = 0
    seconds: float = 0.0


def missing(
    store: Store, project_id: int, fingerprint: str, limit: int, *,
    before: int | None = None, after: int | None = None, slots: str = "",
) -> list[Task]:  # fmt: skip
    """Up to `limit` readable tasks with distinct texts that this annotator has not answered, newest first: a new task
    need not wait until all others are read.

    `before`: the tasks from this id on were looked at already. A long reading goes on from there, so that its chunks
    do not walk over all that is answered again and again. `after`: only tasks that came after this id. `slots`: only
    texts whose keys begin with one of these digits.
    """
    query = _missing(before is not None, after is not None, bool(slots))
    given = {"project": project_id, "asked": fingerprint, "most": limit, "before": before, "after": after}
    with store.read() as connection:
        rows = connection.execute(query, given | ({"slots": list(slots)} if slots else {})).all()
    distinct: dict[str, Task] = {}
    for row in rows:
        distinct.setdefault(row.text_key, from_row(row))
    return list(distinct.values())


@cache
def _missing(before: bool, after: bool, slots: bool) -> sa.Select[Any]:
    """The statement of `missing`: to write it anew for each chunk took longer than the database needs for it."""
    project: sa.BindParameter[int] = sa.bindparam("project")
    query = sa.select(tasks).where(tasks.c.project_id == project)
    if before:
        query = query.where(tasks.c.task_id < sa.bindparam("before"))
    if after:
        query = query.where(tasks.c.task_id > sa.bindparam("after"))
    here = [_SLOT.in_(sa.bindparam("slots", expanding=True))] if slots else []
    query = query.where(*_readable(project), _likely(*here, _no_answer(sa.bindparam("asked"))))
    return query.order_by(tasks.c.task_id.desc()).limit(sa.bindparam("most"))


def _readable(project_id: int | sa.BindParameter[int]) -> tuple[sa.ColumnElement[bool], ...]:
    # Written out, not bound: the database takes the index of readable tasks only where it sees the same condition.
    readable = tasks.c.problem == sa.literal_column("''")
    return tasks.c.project_id == project_id, tasks.c.deleted_at.is_(None), readable


def _no_answer(fingerprint: str | sa.BindParameter[str]) -> sa.ColumnElement[bool]:
    # One look-up a task. EXISTS would be a join, which PostgreSQL plans by counts: as long as it has not counted a
    # table that grows, it compares each task with each answer (8,000 tasks: a second for each chunk).
    here = (signals.c.fingerprint == fingerprint, signals.c.text_key == tasks.c.text_key)
    return sa.select(sa.literal_column("1")).where(*here).correlate(tasks).scalar_subquery().is_(None)


def _likely(*conditions: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    # PostgreSQL takes these conditions for true of one row in ten thousand, so it would collect all rows and sort them
    # for each chunk, instead of going down the keys until the chunk is full. Of a CASE it expects every second row.
    return sa.case((sa.and_(*conditions), sa.true()), else_=sa.false())


def unanswered(store: Store, project_id: int, fingerprint: str) -> int:
    """How many tasks still wait for one annotator."""
    return sum(unanswered_by_slot(store, project_id, fingerprint).values())


def unanswered_by_slot(store: Store, project_id: int, fingerprint: str, *, after: int = -1) -> dict[str, int]:
    """How many tasks after the task `after` still wait for one annotator, by the first digit of their text's key where
    there are any."""
    here = (*_readable(project_id), tasks.c.task_id > after, _no_answer(fingerprint))
    query = sa.select(_SLOT, sa.func.count()).where(*here).group_by(_SLOT)
    with store.read() as connection:
        return {row[0]: row[1] for row in connection.execute(query)}


def slots_of_new(store: Store, project_id: int, fingerprints: Sequence[str], after: int) -> set[str]:
    """The first digits of the text keys of new tasks, after the task `after`, that none of these annotators has
    answered. Of many new tasks, of the last `NEW`."""
    here = (*_readable(project_id), tasks.c.task_id > after)
    new = sa.select(tasks.c.text_key).where(*here).order_by(tasks.c.task_id.desc()).limit(NEW).subquery()
    answers = (signals.c.text_key == new.c.text_key, signals.c.fingerprint.in_(fingerprints))
    query = sa.select(new.c.text_key).where(~sa.exists().where(*answers))
    with store.read() as connection:
        return {key[0] for key in connection.execute(query).scalars()}


def save(store: Store, member: PanelMember, project_id: int, rows: Sequence[SignalRow], cost: Cost) -> None:
    """Write one chunk's answers and what they cost in one transaction; an answer already there stays.

    Any number of workers may write at once. Waits for a store that is away, since asking again is dear.
    """
    answers = {row.text_key: row for row in reversed(rows)}
    # In one order, so that no two workers wait for each other.
    values = [_values(member.fingerprint, answers[key]) for key in sorted(answers)]
    charge, counter = _charge(member, project_id, cost), revisions.of_answers(member.fingerprint)
    saving = one_lock.save if store.is_sqlite else one_trip.save

    def work(connection: sa.Connection, attempt: int) -> None:
        saving(connection, values, charge, counter, first=not (attempt and values))

    store.again(work, alone=True)


def _values(fingerprint: str, row: SignalRow) -> dict[str, Any]:
    return {
        "fingerprint": fingerprint, "text_key": row.text_key,
        "label_probs": np.asarray(row.label_probs, dtype="<f4").tobytes(),
        "votes": np.asarray(row.votes, dtype="<f4").tobytes(),
        "abstained": row.abstained, "truncated": row.truncated,
    }  # fmt: skip


def _charge(member: PanelMember, project_id: int, cost: Cost) -> dict[str, Any]:
    key = {"fingerprint": member.fingerprint, "project_id": project_id, "day": now()[:10], "annotator": member.name}
    return key | {name: getattr(cost, name) for name in Cost.__dataclass_fields__}


@dataclass(frozen=True, slots=True)
class Absence:
    """Why an annotator could not be asked, since when, and when it is tried again (seconds since the epoch)."""

    reason: str
    since: str
    attempts: int
    retry_at: float


def mark_absent(store: Store, fingerprint: str, reason: str, *, first_wait: float = 15.0) -> None:
    """Record that an annotator cannot be asked; it is tried again after a wait that doubles (at most 10 min)."""
    before = absent(store).get(fingerprint)
    attempts = before.attempts + 1 if before else 1
    with store.write() as connection:
        put(connection, absences, [{
            "fingerprint": fingerprint, "reason": reason[:2000], "since": before.since if before else now(),
            "attempts": attempts, "retry_at": time.time() + min(first_wait * 2.0 ** (attempts - 1), 600.0),
        }])  # fmt: skip
        revisions.note(connection, revisions.of_answers(fingerprint))


def absent(store: Store) -> dict[str, Absence]:
    """The annotators that could not be asked last time, by fingerprint."""
    with store.read() as connection:
        rows = connection.execute(sa.select(absences)).all()
    return {row.fingerprint: Absence(row.reason, row.since, row.attempts, row.retry_at) for row in rows}


def load(store: Store, project: Project, rows: Sequence[Task], decision: Decision | None = None) -> Signals:
    """The panel's signals on a decision (None: the only one) for the given tasks; NaN: not answered.

    What was asked of a whole list is read as yes or no to the decision's own label of it.
    """
    decision = decision or project.decision
    asked, panel = decision.asked, project.panel_of(decision)
    place: dict[str, int] = {}  # of each distinct text
    text = [place.setdefault(task.text_key, len(place)) for task in rows]
    both: FloatArray = np.full((2, len(place), len(panel), asked.C), np.nan)  # label_probs and votes
    with store.read() as connection:
        for m, member in enumerate(panel):
            for chunk in in_chunks(place):
                query = sa.select(signals.c.text_key, signals.c.label_probs, signals.c.votes).where(
                    signals.c.fingerprint == member.fingerprint, signals.c.text_key.in_(chunk)
                )
                found = connection.execute(query).all()
                at = [place[row[0]] for row in found]
                for half, column in enumerate((1, 2)):
                    raw = np.frombuffer(b"".join(row[column] for row in found), dtype="<f4")
                    both[half, at, m] = raw.reshape(len(found), asked.C)
    ids = tuple(str(task.task_id) for task in rows)
    if decision.of_a_list:
        both = yes_or_no(both, asked.index(decision.part))
    label_probs, votes = both[:, text]
    return Signals(ids, tuple(member.name for member in panel), decision.labels.names, label_probs, votes)


def daily(store: Store, project_id: int) -> dict[str, list[Cost]]:
    """What each annotator has cost this project on each day, by name."""
    amounts = list(Cost.__dataclass_fields__)
    columns = [sa.func.sum(ledger.c[name]).label(name) for name in amounts]
    query = sa.select(ledger.c.annotator, ledger.c.day, *columns).where(ledger.c.project_id == project_id)
    found: dict[str, list[Cost]] = {}
    with store.read() as connection:
        for row in connection.execute(query.group_by(ledger.c.annotator, ledger.c.day)):
            found.setdefault(row.annotator, []).append(Cost(**{name: getattr(row, name) for name in amounts}))
    return found


def cut(store: Store, project: Project) -> dict[str, int]:
    """How many texts of a project's tasks each annotator read only in part, by name, the most of its decisions."""
    found: dict[str, int] = {}
    for member in project.panel:
        there = sa.exists().where(
            tasks.c.project_id == project.id, tasks.c.text_key == signals.c.text_key, tasks.c.deleted_at.is_(None)
        )
        here = (signals.c.fingerprint == member.fingerprint, signals.c.truncated.is_(True), there)
        with store.read() as connection:
            count = int(connection.execute(sa.select(sa.func.count()).select_from(signals).where(*here)).scalar_one())
        found[member.name] = max(count, found.get(member.name, 0))
    return {name: count for name, count in found.items() if count}


def costs(store: Store, project_id: int | None = None, *, day: str | None = None) -> dict[str, Cost]:
    """What each annotator has cost so far, or on one `day` (2026-12-31, UTC), by name."""
    columns = [sa.func.sum(ledger.c[name]).label(name) for name in Cost.__dataclass_fields__]
    query = sa.select(ledger.c.annotator, *columns).group_by(ledger.c.annotator).order_by(ledger.c.annotator)
    if project_id is not None:
        query = query.where(ledger.c.project_id == project_id)
    if day is not None:
        query = query.where(ledger.c.day == day)
    with store.read() as connection:
        return {
            row.annotator: Cost(**{name: getattr(row, name) for name in Cost.__dataclass_fields__})
            for row in connection.execute(query)
        }
