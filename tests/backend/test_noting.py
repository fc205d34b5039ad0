"""What runs now: noted by one process, read by another."""

from __future__ import annotations

import itertools
import time

import pytest
import redis

from mollm_backend.work import noting, progress, queues
from mollm_backend.work.noting import Running, noted


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = time.time()

    def __call__(self) -> float:
        return self.now


def only(connection: redis.Redis) -> Running:
    (found,) = progress.running(connection, 7)
    return found


def test_a_work_is_seen_while_it_runs_and_not_after(connection: redis.Redis) -> None:
    with noted(connection, 7, "writing labels", 40) as note:
        note.reached(10)
        assert only(connection).what == "writing labels"
        assert progress.running(connection, 8) == []
    assert progress.running(connection, 7) == []


def test_a_work_that_fails_is_not_seen_after_it(connection: redis.Redis) -> None:
    with pytest.raises(ValueError, match="no"), noted(connection, 7, "training"):
        raise ValueError("no")
    assert progress.running(connection, 7) == []


def test_the_end_is_expected_by_the_speed_so_far(connection: redis.Redis) -> None:
    clock = Clock()
    with noted(connection, 7, "reading by tiny", 100, done=20, clock=clock) as note:
        assert only(connection).ends is None
        clock.now += 10
        note.reached(40)
        found = only(connection)
        assert (found.done, found.of) == (40, 100)
        assert found.ends == pytest.approx(clock.now + 30)  # 20 in 10 s, 60 to go
        assert found.share() == pytest.approx(0.4)
        assert found.line(clock.now) == "reading by tiny: 40 of 100, for 10 s, about 30 s to go"


def test_what_cannot_be_counted_is_expected_to_take_what_the_last_one_took(connection: redis.Redis) -> None:
    clock = Clock()
    with noted(connection, 7, "training", alike=True, clock=clock) as note:
        note.say("fusing")
        assert only(connection).share(clock.now) is None
        clock.now += 60
    with noted(connection, 7, "training", alike=True, clock=clock):
        found = only(connection)
        assert found.ends == pytest.approx(clock.now + 60)
        assert found.share(clock.now + 15) == pytest.approx(0.25)
        assert found.share(clock.now + 600) == pytest.approx(0.99)  # late, but not done


def test_a_note_is_written_at_most_once_a_second(connection: redis.Redis) -> None:
    clock = Clock()
    with noted(connection, 7, "training", 1000, clock=clock) as note:
        for step in range(100):
            note.reached(step)
        assert only(connection).done == 0
        clock.now += 1
        note.reached(100)
        assert only(connection).done == 100


def test_pieces_of_one_work_count_together(connection: redis.Redis) -> None:
    clock = Clock()
    begun = clock.now
    for done in (0, 10, 20):
        with noted(connection, 7, "reading by tiny", 40, done=done, in_pieces=True, clock=clock) as note:
            clock.now += 5
            note.reached(done + 10)
        found = only(connection)
        assert found.since == begun
    assert found.ends == pytest.approx(clock.now + 5)
    with noted(connection, 7, "reading by tiny", 40, done=30, in_pieces=True, clock=clock) as note:
        note.reached(40)
    assert progress.running(connection, 7) == []


def test_a_note_goes_by_itself_when_its_process_has_died(connection: redis.Redis) -> None:
    start = Running("training", 7, 0, 0, time.time(), None, "")
    noting.Note(connection, start, in_pieces=False, alike=True, clock=lambda: time.time() - noting.GONE - 1).open()
    assert progress.running(connection, 7) == []
    assert 0 < connection.ttl("mollm:running:7") <= noting.BETWEEN


def test_a_silent_work_stays_in_sight(connection: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(noting, "EVERY", 0.01)
    ticks = itertools.count()
    began = time.time()
    with noted(connection, 7, "training", clock=lambda: began + next(ticks)):
        deadline = time.monotonic() + 5
        while next(ticks) < noting.GONE + 5:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert only(connection).what == "training"


def test_without_a_queue_the_work_goes_on() -> None:
    nothing = queues.connect("unix:///nowhere/valkey.sock")
    with noted(nothing, 7, "training") as note:
        note.say("fusing")
    assert progress.running(nothing, 7) == []


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(-1, "0 s"), (40, "40 s"), (600, "10 min"), (7200, "2.0 h"), (3 * 86400, "3.0 days")],
)
def test_durations_are_told_as_people_say_them(seconds: float, words: str) -> None:
    assert noting.in_time(seconds) == words
