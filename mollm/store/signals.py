"""The signal cache: no annotator is asked twice for the same text, prompt and labels; and what it cost."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from mollm.records import FloatArray, Signals
from mollm.store import Store, now
from mollm.store.projects import PanelMember, Project
from mollm.store.schema import ledger, signal_gaps, signals, tasks
from mollm.store.tasks import Task

_CHUNK = 500


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


def missing(store: Store, project_id: int, fingerprint: str, limit: int, *, at: float | None = None) -> list[Task]:
    """Up to `limit` readable tasks whose text this annotator has not answered (and whose retry time has come)."""
    waits = sa.exists().where(
        signal_gaps.c.fingerprint == fingerprint, signal_gaps.c.text_key == tasks.c.text_key,
        signal_gaps.c.retry_at > (time.time() if at is None else at),
    )  # fmt: skip
    query = (
        sa.select(sa.func.min(tasks.c.task_id).label("task_id"), tasks.c.text_key)
        .where(_unanswered(project_id, fingerprint), ~waits)
        .group_by(tasks.c.text_key)
        .order_by(sa.func.min(tasks.c.task_id))
        .limit(limit)
        .subquery()
    )
    full = sa.select(tasks).join(query, sa.and_(tasks.c.task_id == query.c.task_id, tasks.c.project_id == project_id))
    with store.read() as connection:
        rows = connection.execute(full.order_by(tasks.c.task_id)).all()
    return [Task(row.task_id, row.data_hash, row.text, row.problem) for row in rows]


def _unanswered(project_id: int, fingerprint: str) -> sa.ColumnElement[bool]:
    answered = sa.exists().where(signals.c.fingerprint == fingerprint, signals.c.text_key == tasks.c.text_key)
    return sa.and_(tasks.c.project_id == project_id, tasks.c.deleted_at.is_(None), tasks.c.problem == "", ~answered)


def count_missing(store: Store, project: Project) -> dict[str, int]:
    """How many tasks still wait for each annotator of the project's panel."""
    with store.read() as connection:
        return {
            member.name: connection.execute(
                sa.select(sa.func.count()).select_from(tasks).where(_unanswered(project.id, member.fingerprint))
            ).scalar_one()
            for member in project.panel
        }


def count_answered(store: Store, project: Project) -> int:
    """How many readable tasks have an answer of at least one annotator of the panel."""
    prints = [member.fingerprint for member in project.panel]
    answered = sa.exists().where(signals.c.fingerprint.in_(prints), signals.c.text_key == tasks.c.text_key)
    query = sa.select(sa.func.count()).select_from(tasks).where(
        tasks.c.project_id == project.id, tasks.c.deleted_at.is_(None), tasks.c.problem == "", answered
    )  # fmt: skip
    with store.read() as connection:
        return int(connection.execute(query).scalar_one())


def save(store: Store, member: PanelMember, project_id: int, rows: Sequence[SignalRow], cost: Cost) -> None:
    """Write one chunk's answers and what they cost in one transaction; an answer already there stays."""
    with store.write() as connection:
        for row in rows:
            found = connection.execute(
                sa.select(signals.c.text_key).where(
                    signals.c.fingerprint == member.fingerprint, signals.c.text_key == row.text_key
                )
            ).first()
            if found is None:
                connection.execute(
                    signals.insert().values(
                        fingerprint=member.fingerprint, text_key=row.text_key,
                        label_probs=np.asarray(row.label_probs, dtype="<f4").tobytes(),
                        votes=np.asarray(row.votes, dtype="<f4").tobytes(),
                        abstained=row.abstained, truncated=row.truncated,
                    )
                )  # fmt: skip
            connection.execute(
                signal_gaps.delete().where(
                    signal_gaps.c.fingerprint == member.fingerprint, signal_gaps.c.text_key == row.text_key
                )
            )
        _charge(connection, member, project_id, cost)


def _charge(connection: sa.Connection, member: PanelMember, project_id: int, cost: Cost) -> None:
    key = {"fingerprint": member.fingerprint, "project_id": project_id, "day": now()[:10]}
    where = [ledger.c[name] == value for name, value in key.items()]
    amounts = {name: getattr(cost, name) for name in Cost.__dataclass_fields__}
    changed = connection.execute(
        ledger.update().where(*where).values({name: ledger.c[name] + amount for name, amount in amounts.items()})
    )
    if changed.rowcount == 0:
        connection.execute(ledger.insert().values(annotator=member.name, **key, **amounts))


def mark_gap(
    store: Store, fingerprint: str, text_keys: Sequence[str], reason: str, *, first_wait: float = 15.0
) -> None:
    """Record that an annotator could not answer; it is asked again after a wait that doubles (at most 1 h)."""
    with store.write() as connection:
        for key in text_keys:
            where = (signal_gaps.c.fingerprint == fingerprint, signal_gaps.c.text_key == key)
            attempts = connection.execute(sa.select(signal_gaps.c.attempts).where(*where)).scalar() or 0
            connection.execute(signal_gaps.delete().where(*where))
            wait = min(first_wait * 2.0**attempts, 3600.0)
            connection.execute(
                signal_gaps.insert().values(
                    fingerprint=fingerprint, text_key=key, attempts=attempts + 1, reason=reason[:2000],
                    retry_at=time.time() + wait,
                )
            )  # fmt: skip


def gaps(store: Store, fingerprint: str) -> list[str]:
    """The distinct reasons why answers of an annotator are missing."""
    query = sa.select(signal_gaps.c.reason).where(signal_gaps.c.fingerprint == fingerprint).distinct().limit(10)
    with store.read() as connection:
        return list(connection.execute(query).scalars())


def load(store: Store, project: Project, rows: Sequence[Task]) -> Signals:
    """The panel's signals for the given tasks, NaN where an annotator has not answered."""
    labels = project.label_task.labels.names
    place: dict[str, list[int]] = {}
    for n, task in enumerate(rows):
        place.setdefault(task.item.text_key, []).append(n)
    label_probs = np.full((len(rows), len(project.panel), len(labels)), np.nan)
    votes = np.full_like(label_probs, np.nan)
    keys = list(place)
    with store.read() as connection:
        for m, member in enumerate(project.panel):
            for start in range(0, len(keys), _CHUNK):
                chunk = keys[start : start + _CHUNK]
                query = sa.select(signals.c.text_key, signals.c.label_probs, signals.c.votes).where(
                    signals.c.fingerprint == member.fingerprint, signals.c.text_key.in_(chunk)
                )
                for key, raw_probs, raw_votes in connection.execute(query):
                    label_probs[place[key], m] = np.frombuffer(raw_probs, dtype="<f4")
                    votes[place[key], m] = np.frombuffer(raw_votes, dtype="<f4")
    ids = tuple(str(task.task_id) for task in rows)
    return Signals(ids, tuple(member.name for member in project.panel), labels, label_probs, votes)


def costs(store: Store, project_id: int | None = None) -> dict[str, Cost]:
    """What each annotator has cost so far, by name."""
    columns = [sa.func.sum(ledger.c[name]).label(name) for name in Cost.__dataclass_fields__]
    query = sa.select(ledger.c.annotator, *columns).group_by(ledger.c.annotator).order_by(ledger.c.annotator)
    if project_id is not None:
        query = query.where(ledger.c.project_id == project_id)
    with store.read() as connection:
        return {
            row.annotator: Cost(**{name: getattr(row, name) for name in Cost.__dataclass_fields__})
            for row in connection.execute(query)
        }
