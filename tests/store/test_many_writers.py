"""Several workers write at once, and the database goes away in between: nothing is lost, nothing counts twice."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import sqlalchemy as sa

import mollm_backend.store
from mollm.records import LabelSet
from mollm_backend.store import Store, StoreAway, projects, signals, tasks
from mollm_backend.store.decisions import Decision, Source
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.signals import Cost, SignalRow
from mollm_backend.store.tasks import Task

CAT_DOG = (Decision("label", (Source("text", "text"),), LabelSet(("cat", "dog"))),)

MEMBER = PanelMember("tiny", "f-tiny")
TEXTS, ROUNDS, WRITERS = 40, 5, 4
ONCE = Cost(calls=1, texts=TEXTS, prompt_tokens=7)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store(url, patience=20.0)
    projects.save(opened, Project(7, "http://ls", "Pets", "2026-01-01", "<View/>", CAT_DOG, (MEMBER,)))
    tasks.upsert(opened, 7, [Task(n + 1, f"h{n}", f"text {n}") for n in range(TEXTS * ROUNDS)])
    yield opened
    opened.close()


def answers(first: int = 0) -> list[SignalRow]:
    probs = np.array([0.25, 0.75])
    return [SignalRow(Task(0, "", f"text {n}").text_key, probs, probs) for n in range(first, first + TEXTS)]


def at_once(*work: Callable[[], object]) -> list[BaseException]:
    """Start all of it at the same moment. Returns what was raised."""
    raised, together = list[BaseException](), threading.Barrier(len(work))

    def run(one: Callable[[], object]) -> None:
        together.wait()
        try:
            one()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=run, args=(one,)) for one in work]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised


def test_workers_that_save_the_same_answers_at_once(store: Store) -> None:
    for n in range(ROUNDS):
        rows = answers(n * TEXTS)
        orders = [rows if w % 2 else rows[::-1] for w in range(WRITERS)]
        assert at_once(*(lambda order=order: signals.save(store, MEMBER, 7, order, ONCE) for order in orders)) == []
    assert signals.unanswered(store, 7, MEMBER.fingerprint) == 0
    cost = signals.costs(store, 7)["tiny"]
    assert (cost.calls, cost.texts, cost.prompt_tokens) == tuple(x * WRITERS * ROUNDS for x in (1, TEXTS, 7))


def test_workers_that_find_an_annotator_away_at_once(store: Store) -> None:
    assert at_once(*[lambda: signals.mark_absent(store, MEMBER.fingerprint, "down")] * WRITERS) == []
    assert signals.absent(store)[MEMBER.fingerprint].reason == "down"


def test_workers_that_open_an_empty_store_at_once(postgres: object) -> None:
    with postgres.database() as url:  # type: ignore[attr-defined]
        assert at_once(*[lambda: Store(url).close()] * 3) == []
        opened = Store(url, migrate=False)
        assert projects.every(opened) == []
        opened.close()


def lose_connection(connection: sa.Connection) -> None:
    """As a server that is stopped."""
    if connection.dialect.name == "postgresql":
        pid = connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        with connection.engine.connect() as other:
            other.exec_driver_sql(f"SELECT pg_terminate_backend({pid})")
    else:
        error = sa.exc.OperationalError("COMMIT", {}, Exception("gone"))
        error.connection_invalidated = True
        raise error


@pytest.mark.parametrize("kept", [False, True], ids=["before the commit", "after it"])
def test_a_connection_that_is_lost_in_a_save(store: Store, monkeypatch: pytest.MonkeyPatch, kept: bool) -> None:
    """Whether the server kept the transaction or not: the answers are there, and their cost stands once."""
    lost, commit = list[int](), sa.Connection.commit

    def losing(connection: sa.Connection) -> None:
        if lost:
            commit(connection)
            return
        lost.append(1)
        if kept:
            commit(connection)
            raise sa.exc.OperationalError("COMMIT", {}, Exception("gone"), connection_invalidated=True)
        lose_connection(connection)
        commit(connection)

    monkeypatch.setattr(sa.Connection, "commit", losing)
    signals.save(store, MEMBER, 7, answers(), ONCE)
    assert lost
    assert signals.unanswered(store, 7, MEMBER.fingerprint) == TEXTS * (ROUNDS - 1)
    assert signals.costs(store, 7)["tiny"].texts == TEXTS


def test_a_save_writes_its_answers_before_it_takes_what_all_workers_need(postgres: object) -> None:
    """While another worker has the counter of changes, the answers are written, and no other counter is taken."""
    with postgres.database(migrated=True) as url:  # type: ignore[attr-defined]
        store = Store(url, patience=20.0)
        projects.save(store, Project(7, "http://ls", "Pets", "2026-01-01", "<View/>", CAT_DOG, (MEMBER,)))
        tasks.upsert(store, 7, [Task(n + 1, f"h{n}", f"text {n}") for n in range(2 * TEXTS)])
        signals.save(store, MEMBER, 7, answers(), ONCE)
        saving = threading.Thread(target=signals.save, args=(store, MEMBER, 7, answers(TEXTS), ONCE))
        with store.engine.connect() as holder, store.engine.connect() as looking:
            holder.exec_driver_sql("SELECT number FROM revisions WHERE subject = 'changes 7' FOR UPDATE")
            saving.start()
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            while not looking.exec_driver_sql(waits).scalar_one():
                looking.rollback()
            looking.exec_driver_sql("SELECT 1 FROM revisions WHERE subject = 'answers f-tiny' FOR UPDATE NOWAIT")
            looking.exec_driver_sql("SELECT 1 FROM ledger FOR UPDATE NOWAIT")
            looking.exec_driver_sql("SET lock_timeout = '100ms'")
            last = max(row.text_key for row in answers(TEXTS))
            with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
                looking.exec_driver_sql(
                    "INSERT INTO signals (fingerprint, text_key, label_probs, votes, abstained, truncated) "
                    f"VALUES ('f-tiny', '{last}', '', '', 0, false)"
                )
            holder.rollback()
        saving.join()
        assert signals.unanswered(store, 7, MEMBER.fingerprint) == 0
        store.close()


def test_a_connection_that_the_server_closed_while_it_lay_idle_is_not_used(postgres: object) -> None:
    with postgres.database(migrated=True) as url:  # type: ignore[attr-defined]
        store, other = Store(url), Store(url)
        assert projects.every(store) == []
        with other.engine.connect() as connection:
            others = "FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
            connection.exec_driver_sql(f"SELECT pg_terminate_backend(pid) {others}")
            while connection.exec_driver_sql(f"SELECT count(*) {others}").scalar_one():
                connection.rollback()
        assert projects.every(store) == []
        store.close()
        other.close()


def test_a_lock_is_waited_for_and_then_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mollm_backend.store, "LOCK_SECONDS", 1.0)
    holder, waiter = Store(url), Store(url)
    monkeypatch.setattr(mollm_backend.store, "ATTEMPTS", 1)
    projects.save(holder, Project(7, "http://ls", "Pets", "2026-01-01", "<View/>", CAT_DOG, (MEMBER,)))
    with holder.write() as connection:
        connection.exec_driver_sql("UPDATE projects SET title = 'held'")
        with pytest.raises(StoreAway, match=r"away or busy.*Nothing of this was written"):
            waiter.again(lambda other, _attempt: other.exec_driver_sql("UPDATE projects SET title = 'mine'"))
    waiter.again(lambda other, _attempt: other.exec_driver_sql("UPDATE projects SET title = 'mine'"))
    assert projects.get(holder, 7).title == "mine"
    holder.close()
    waiter.close()


def test_a_database_that_does_not_answer_is_told_after_patience() -> None:
    nowhere = Store("postgresql+psycopg://mollm:secret@/mollm?host=/nowhere", migrate=False, patience=0.3)
    with pytest.raises(StoreAway, match=r"away or busy for 0 s: .*see whether the database runs") as told:
        projects.every(nowhere)
    assert "secret" not in str(told.value)
    nowhere.close()
