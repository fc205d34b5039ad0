"""What runs now: a worker notes how far its long work is, and terminals and pages read it.

A note lies in Redis, is written at most once a second, and goes by itself soon after its process has died. Noting never
fails and never waits for long: where the queue's server does not answer, the work goes on without it.
"""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

import redis

EVERY = 1.0  # seconds between two writings of a note, however often the work calls
BEAT = 5.0  # seconds after which a note is written again although the work is silent: it is alive
GONE = 20.0  # seconds without a beat after which a note does not count: its process has died, or is stopped
# Work in pieces (a reading, a prediction) goes on within this time, unless something else comes first, such as a
# training. It counts as one work then, with the speed of all its pieces.
BETWEEN = 120.0
REMEMBERED = 30 * 86400  # seconds for which the duration of a work is kept, to expect the next one's end by


@dataclass(frozen=True, slots=True)
class Running:
    """A long work that runs now. Times are seconds since the epoch."""

    what: str  # such as "training" or "reading by smollm2-360m"
    project_id: int
    done: int
    of: int  # 0: it cannot be counted
    since: float
    ends: float | None  # expected, by the speed so far or by what the last one took; None: not known yet
    word: str  # the last that it said, such as a training's step; may be empty

    def share(self, now: float | None = None) -> float | None:
        """How much of it is done, 0 to 1: by count, else by time; None where neither is known."""
        if self.of:
            return min(self.done / self.of, 1.0)
        if self.ends is None or self.ends <= self.since:
            return None
        return max(0.0, min(((now or time.time()) - self.since) / (self.ends - self.since), 0.99))

    def line(self, now: float | None = None) -> str:
        """All of it in words: "training: picking the next batch, for 40 s, about 20 s to go"."""
        now = now or time.time()
        counted = f"{min(self.done, self.of):,} of {self.of:,}" if self.of else f"{self.done:,}" if self.done else ""
        left = "" if self.ends is None else _to_go(self.ends - now)
        parts = [self.word, counted, f"for {in_time(now - self.since)}", left]
        return f"{self.what}: {', '.join(part for part in parts if part)}"

    def as_json(self) -> dict[str, Any]:
        """For programs and pages: the fields, `share` and `line`."""
        return asdict(self) | {"share": self.share(), "line": self.line()}


class Note:
    """One work's note, as `noted` gives it: the work tells it how far it is."""

    def __init__(
        self, connection: redis.Redis, start: Running, *, in_pieces: bool, alike: bool, clock: Callable[[], float]
    ) -> None:
        self._connection, self._clock, self._in_pieces, self._alike = connection, clock, in_pieces, alike
        self._now, self._before, self._written = start, start.done, 0.0
        self._lock, self._unwritten = threading.Lock(), False
        self._took: float | None = None

    def say(self, word: str) -> None:
        """Note what it is doing now."""
        self._change(word=word)

    def reached(self, done: int, of: int = 0) -> None:
        """Note how much is done, and `of` how many where that is known only now."""
        self._change(done=done, of=of or self._now.of)

    def add(self, more: int) -> None:
        """Note that so much more is done."""
        self._change(done=self._now.done + more)

    def rest(self) -> None:
        """It does not go on soon: at the end of the block nothing stays noted."""
        self._in_pieces = False

    def _change(self, **given: Any) -> None:
        """Cheap: what comes within a second of the last writing is written with the next."""
        with self._lock:
            self._now, self._unwritten = replace(self._now, **given), True
            if self._clock() - self._written >= EVERY:
                self._write(GONE)

    def open(self) -> None:
        """Go on from an earlier piece's note where there is one, and write the first."""
        with self._lock, contextlib.suppress(redis.RedisError):
            found = _read(self._connection.hget(_key(self._now.project_id), self._now.what), self._clock())
            if found is not None and self._in_pieces and found[0].done <= self._now.done:
                self._now = replace(self._now, since=found[0].since)
                self._before = found[1]
            took = self._connection.hget(_took(self._now.project_id), self._now.what) if self._alike else None
            self._took = float(took) if took else None
            self._write(GONE)

    def beat(self) -> None:
        """Write what is not written yet, and now and then that the work is alive."""
        with self._lock:
            if self._unwritten or self._clock() - self._written >= BEAT:
                self._write(GONE)

    def close(self, *, completed: bool) -> None:
        """Take the note away; that of a piece after which there is more to do stays for a while."""
        with self._lock, contextlib.suppress(redis.RedisError):
            if self._in_pieces and self._now.done < self._now.of:
                self._write(BETWEEN)
                return
            self._connection.hdel(_key(self._now.project_id), self._now.what)
            if completed and self._alike:
                key = _took(self._now.project_id)
                self._connection.hset(key, self._now.what, str(self._clock() - self._now.since))
                self._connection.expire(key, REMEMBERED)

    def _write(self, seconds: float) -> None:
        now = self._written = self._clock()
        self._unwritten = False
        row = asdict(replace(self._now, ends=self._ends(now))) | {"before": self._before, "until": now + seconds}
        with contextlib.suppress(redis.RedisError):
            pipeline = self._connection.pipeline(transaction=False)
            pipeline.hset(_key(self._now.project_id), self._now.what, json.dumps(row))
            pipeline.expire(_key(self._now.project_id), round(BETWEEN))
            pipeline.execute()

    def _ends(self, now: float) -> float | None:
        """By the speed since the beginning, else by what the last one took; None where neither is known."""
        done = self._now.done - self._before
        if self._now.of and done > 0:
            return now + (now - self._now.since) / done * max(self._now.of - self._now.done, 0)
        return None if self._took is None else self._now.since + self._took


@contextmanager
def noted(
    connection: redis.Redis,
    project_id: int,
    what: str,
    of: int = 0,
    *,
    done: int = 0,
    in_pieces: bool = False,
    alike: bool = False,
    clock: Callable[[], float] = time.time,
) -> Iterator[Note]:
    """Note a long work while the block runs; a thread keeps the note alive while the work says nothing.

    `in_pieces`: other jobs go on with it, and what is not done at the end stays noted for `BETWEEN` seconds. `alike`:
    one takes about as long as the last one took, which tells the end of what cannot be counted.
    """
    start = Running(what, project_id, done, of, clock(), None, "")
    note = Note(connection, start, in_pieces=in_pieces, alike=alike, clock=clock)
    note.open()
    over = threading.Event()
    thread = threading.Thread(target=_beats, args=(note, over), name=f"note of {what}", daemon=True)
    thread.start()
    completed = False
    try:
        yield note
        completed = True
    finally:
        over.set()
        thread.join()
        note.close(completed=completed)


def _beats(note: Note, over: threading.Event) -> None:
    while not over.wait(EVERY):
        note.beat()


def running(connection: redis.Redis, project_id: int) -> list[Running]:
    """What runs now for a project, the longest first; nothing where the queue's server does not answer."""
    try:
        rows = connection.hvals(_key(project_id))
    except redis.RedisError:
        return []
    found = [read[0] for row in rows if (read := _read(row, time.time())) is not None]
    return sorted(found, key=lambda row: (row.since, row.what))


def in_time(seconds: float) -> str:
    """A duration as people say it: "40 s", "12 min", "3.5 h"."""
    if seconds < 90:
        return f"{max(seconds, 0):.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"


def _to_go(seconds: float) -> str:
    return f"about {in_time(seconds)} to go" if seconds >= 1 else "nearly done"


def _read(row: Any, now: float) -> tuple[Running, int] | None:
    """A note and how much was done when it began; None where there is none, or it is over."""
    if not row:
        return None
    fields = json.loads(row)
    before, until = int(fields.pop("before")), float(fields.pop("until"))
    return None if until < now else (Running(**fields), before)


def _key(project_id: int) -> str:
    return f"mollm:running:{project_id}"


def _took(project_id: int) -> str:
    return f"mollm:took:{project_id}"
