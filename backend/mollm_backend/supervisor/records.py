"""Who was started: one file a child under `home/run`, believed only where pid and start time both agree."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from mollm_backend.supervisor.launch import start_mark

# Every child carries this with the home's path: the last word on whose it is when its session leader is gone.
FAMILY_VARIABLE = "MOLLM_STARTED_FROM"


@dataclass(frozen=True, slots=True)
class Record:
    """A process that was started for `home`: leader of the session `pid`."""

    name: str
    pid: int
    started: str
    path: Path

    def is_alive(self) -> bool:
        return start_mark(self.pid) == self.started


def read(directory: Path) -> list[Record]:
    """All records of a home's `run` directory; a torn or foreign file is passed over."""
    found = []
    for path in sorted(directory.glob("*.child.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            facts = json.loads(path.read_text(encoding="utf-8"))
            found.append(Record(path.name.removesuffix(".child.json"), int(facts["pid"]), str(facts["started"]), path))
    return found


def family(record: Record, home: Path) -> set[int]:
    """Pids that belong to a record: the leader, what it spawned, and what is left in its session.

    A leader that is gone does not free its session id while a member lives; still, members of a leaderless
    session must show our own variable, so that nobody else's process is ever ended.
    """
    pids = {record.pid} | _descendants(record.pid) if record.is_alive() else set()
    leader_lives = bool(pids)
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if os.getsid(pid) == record.pid and pid != os.getpid() and (leader_lives or _is_ours(pid, home)):
                pids.add(pid)
    if not leader_lives and start_mark(record.pid) is not None:
        pids.discard(record.pid)  # the number was given to somebody else
    return pids


def _descendants(pid: int) -> set[int]:
    try:
        return {child.pid for child in psutil.Process(pid).children(recursive=True)}
    except psutil.Error:
        return set()


def _is_ours(pid: int, home: Path) -> bool:
    try:
        return bool(psutil.Process(pid).environ().get(FAMILY_VARIABLE) == str(home))
    except (psutil.Error, OSError):
        return False


def end(records: Iterable[Record], home: Path, *, grace: float, kill_after: float = 2.0) -> list[str]:
    """End these children and all they spawned; the names of those that were still there.

    SIGTERM first goes to the leaders (they know how to end their own), at half the grace to all that is left (a
    worker in the middle of a job answers the first with patience, the second with obedience), then SIGKILL.
    Takes at most `grace + kill_after` seconds. Records of what is gone are removed.
    """
    records = list(records)
    members = {record: _marks(family(record, home)) for record in records}
    ended = [record.name for record in records if members[record]]
    for record in records:
        leader = {pid: mark for pid, mark in members[record].items() if pid == record.pid}
        _signal(leader or members[record], signal.SIGTERM)
    everybody = {pid: mark for marks in members.values() for pid, mark in marks.items()}
    if not _wait(everybody, grace / 2):
        _signal(everybody, signal.SIGTERM)
        _wait(everybody, grace / 2)
    for record in records:  # what was spawned since
        everybody |= _marks(family(record, home))
    _signal(everybody, signal.SIGKILL)
    _wait(everybody, kill_after)
    for record in records:
        if not record.is_alive():
            record.path.unlink(missing_ok=True)
    return ended


def _marks(pids: Iterable[int]) -> dict[int, str]:
    return {pid: mark for pid in pids if (mark := start_mark(pid))}


def _signal(members: dict[int, str], number: signal.Signals) -> None:
    for pid, mark in members.items():
        if start_mark(pid) == mark:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _wait(members: dict[int, str], seconds: float) -> bool:
    """Whether all are gone (or zombies) within `seconds`."""
    end_at = time.monotonic() + seconds
    while any(start_mark(pid) == mark for pid, mark in members.items()):
        if time.monotonic() >= end_at:
            return False
        time.sleep(0.05)
    return True
