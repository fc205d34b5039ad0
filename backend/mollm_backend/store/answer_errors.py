"""The answers that failed: why, how many of each kind, and how they are asked again.

The signal of such an answer is an abstention. To ask again is to forget that signal: the text is then among those that
the annotator has not answered.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa

from mollm.failures import UNNOTED, kind_of, remedy, retried
from mollm_backend.store import Store, in_chunks, now, put, revisions
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.schema import answer_errors as table
from mollm_backend.store.schema import signals, tasks

# Seconds until a few texts are tried again; each failed try doubles them (chosen by hand: a restarted server is seen
# soon, and one that never changes costs a few calls a day).
FIRST_WAIT, LONGEST_WAIT = 600.0, 86_400.0


@dataclass(frozen=True, slots=True)
class Problem:
    """One kind of failure of one annotator: on how many `texts` of a project, since when, and what helps.

    `message` is one of them in the annotator's or its server's own words.
    """

    annotator: str
    decision: str
    kind: str
    texts: int
    message: str
    remedy: str
    since: str = ""

    @property
    def line(self) -> str:
        """One line for people, without the remedy."""
        of = f" on {self.decision}" if self.decision else ""
        texts = f"{self.texts} {'text' if self.texts == 1 else 'texts'}"
        said = f": {self.message.rstrip('.')}" if self.message else ""
        return f"{self.annotator} could not answer {texts}{of} ({self.kind}){said}"


def note(store: Store, fingerprint: str, errors: Mapping[str, str]) -> tuple[set[str], dict[str, int]]:
    """Note what became of texts that were asked: by text key the error, "" for an answer.

    Returns (the kinds that this annotator never had before, the kinds of which a text was answered now, with how often
    that text had failed).
    """
    known = _of_texts(store, fingerprint, errors)
    failed = {key: error for key, error in errors.items() if error}
    better = dict[str, int]()
    for row in (known[key] for key in known if key not in failed):
        better[row.kind] = max(row.attempts, better.get(row.kind, 0))
    if not failed and not better:
        return set(), {}
    before = _kinds(store, fingerprint)
    rows = list[dict[str, Any]]()
    for key, error in failed.items():
        attempts, kind = known[key].attempts + 1 if key in known else 1, kind_of(error)
        wait = min(FIRST_WAIT * 2.0 ** (attempts - 1), LONGEST_WAIT)
        rows.append(
            {
                "fingerprint": fingerprint, "text_key": key, "kind": kind, "message": error[:2000],
                "attempts": attempts, "retry_at": time.time() + wait if retried(kind) else None,
                "since": known[key].since if key in known else now(),
            }
        )  # fmt: skip
    with store.write() as connection:
        for chunk in in_chunks(key for key in known if key not in failed):
            connection.execute(table.delete().where(table.c.fingerprint == fingerprint, table.c.text_key.in_(chunk)))
        if rows:
            put(connection, table, rows)
    return {kind_of(error) for error in failed.values()} - before, better


def any_of(store: Store, fingerprint: str) -> bool:
    """Whether any text of this annotator failed when it was asked last."""
    with store.read() as connection:
        return bool(connection.execute(sa.select(sa.exists().where(table.c.fingerprint == fingerprint))).scalar())


def failed_before(store: Store, fingerprint: str, text_keys: Iterable[str]) -> bool:
    """Whether one of these texts failed when this annotator was asked last."""
    return bool(_of_texts(store, fingerprint, text_keys))


def ask_again(
    store: Store, fingerprint: str, *, kind: str = "", limit: int | None = None,
    due: float | None = None, attempts: int | None = None,
) -> int:  # fmt: skip
    """Forget failed answers, so that they are asked again. Returns how many.

    Of one `kind`, at most `limit`, whose time has come at `due`, that failed at most `attempts` times. Without a kind,
    abstentions whose reason was never noted are forgotten too.
    """
    here = [table.c.fingerprint == fingerprint]
    here += [table.c.kind == kind] if kind else []
    here += [] if due is None else [table.c.retry_at <= due]
    here += [] if attempts is None else [table.c.attempts <= attempts]
    query = sa.select(table.c.text_key).where(*here).order_by(table.c.retry_at).limit(limit)
    mine = signals.c.fingerprint == fingerprint
    with store.write() as connection:
        keys = set(connection.execute(query).scalars())
        if not kind:
            keys |= set(connection.execute(sa.select(signals.c.text_key).where(_unnoted(fingerprint))).scalars())
        gone = 0
        for chunk in in_chunks(keys):
            gone += connection.execute(signals.delete().where(mine, signals.c.text_key.in_(chunk))).rowcount
        if gone:
            revisions.note(connection, revisions.of_answers(fingerprint))
    return gone


def ripe(store: Store, fingerprint: str) -> list[str]:
    """The kinds of failure of which something is to be tried again now, unless a try of it waits for its answer."""
    asked = ~sa.exists().where(signals.c.fingerprint == table.c.fingerprint, signals.c.text_key == table.c.text_key)
    here = table.c.fingerprint == fingerprint
    with store.read() as connection:
        due = sa.select(table.c.kind).where(here, table.c.retry_at <= time.time()).distinct()
        waiting = sa.select(table.c.kind).where(here, asked).distinct()
        return sorted(set(connection.execute(due).scalars()) - set(connection.execute(waiting).scalars()))


def try_at_once(store: Store) -> None:
    """At a start: whatever the waits, the causes may be mended now."""
    with store.write() as connection:
        connection.execute(table.update().where(table.c.retry_at.is_not(None)).values(retry_at=0.0, attempts=1))


def problems(store: Store, project: Project) -> list[Problem]:
    """What failed in a project, most texts first: one entry for each annotator, decision and kind."""
    there = sa.exists().where(
        tasks.c.project_id == project.id, tasks.c.text_key == table.c.text_key, tasks.c.deleted_at.is_(None)
    )
    columns = table.c.kind, sa.func.count(), sa.func.max(table.c.message), sa.func.min(table.c.since)
    found = list[Problem]()
    for member in project.panel:
        query = sa.select(*columns).where(table.c.fingerprint == member.fingerprint, there).group_by(table.c.kind)
        with store.read() as connection:
            rows = connection.execute(query).all()
        found += [_problem(member, project, *row) for row in rows]
    return sorted(found, key=lambda row: (-row.texts, row.annotator, row.decision, row.kind))


def unnoted(store: Store, project: Project) -> list[Problem]:
    """Answers without any label for which no reason is stored, as earlier releases left them. It reads all answers."""
    found = []
    for member in project.panel:
        there = sa.exists().where(tasks.c.project_id == project.id, tasks.c.text_key == signals.c.text_key)
        query = sa.select(sa.func.count()).select_from(signals).where(_unnoted(member.fingerprint), there)
        with store.read() as connection:
            count = int(connection.execute(query).scalar_one())
        if count:
            found.append(_problem(member, project, UNNOTED, count, "", ""))
    return found


def _problem(member: PanelMember, project: Project, kind: str, texts: int, message: str, since: str) -> Problem:
    name = project.decision_of(member).name if len(project.decisions) > 1 else ""
    return Problem(member.name, name, kind, texts, message, remedy(kind), since)


def _unnoted(fingerprint: str) -> sa.ColumnElement[bool]:
    noted = sa.exists().where(table.c.fingerprint == signals.c.fingerprint, table.c.text_key == signals.c.text_key)
    return sa.and_(signals.c.fingerprint == fingerprint, signals.c.abstained >= 1.0, ~noted)


def _kinds(store: Store, fingerprint: str) -> set[str]:
    with store.read() as connection:
        query = sa.select(table.c.kind).where(table.c.fingerprint == fingerprint).distinct()
        return set(connection.execute(query).scalars())


def _of_texts(store: Store, fingerprint: str, text_keys: Iterable[str]) -> dict[str, sa.Row[tuple[str, str, int, str]]]:
    found: dict[str, sa.Row[tuple[str, str, int, str]]] = {}
    keys: Sequence[str] = list(text_keys)
    with store.read() as connection:
        for chunk in in_chunks(keys):
            query = sa.select(table.c.text_key, table.c.kind, table.c.attempts, table.c.since).where(
                table.c.fingerprint == fingerprint, table.c.text_key.in_(chunk)
            )
            found |= {row.text_key: row for row in connection.execute(query)}
    return found
