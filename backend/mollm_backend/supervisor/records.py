"""Which processes were started: one file for each, in `home/run`. It counts only if pid and start time both match."""

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

# The home's path, in the environment of every child: shows that a process is ours when its session leader is gone.
FAMILY_VARIABLE = "MOLLM_STARTED_FROM"


@dataclass(frozen=True, slots=True)
class Record:
    """A process that was started for a home. It is the leader of the session `pid`."""

    name: str
    pid: int
    started: str
    path: Path

    def is_alive(self) -> bool:
        return start_mark(self.pid) == self.started


def read(directory: Path) -> list[Record]:
    """All records in a home's `run` directory. A damaged or unknown file is skipped."""
    found = []
    for path in sorted(directory.glob("*.child.json")):
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            facts = json.loads(path.read_text(encoding="utf-8"))
            found.append(Record(path.name.removesuffix(".child.json"), int(facts["pid"]), str(facts["started"]), path))
    return found


def family(record: Record, home: Path) -> set[int]:
    """The pids that belong to a record: the leader, its descendants, and the other members of its session.

    A session keeps its id while a member lives. If the leader is gone, members count only if they have our
    variable in their environment, so that no unrelated process is ended.
    """
    pids = {record.pid} | _descendants(record.pid) if record.is_alive() else set()
    leader_lives = bool(pids)
    for pid in psutil.pids():
        with contextlib.suppress(OSError):
            if os.getsid(pid) == record.pid and pid != os.getpid() and (leader_lives or _is_ours(pid, home)):
                pids.add(pid)
    if not leader_lives and start_mark(record.pid) is not None:
        pids.discard(record.pid)  # another process has this pid now
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
    """End these children and all their descendants. Returns the names of those that were alive.

    First the leaders get SIGTERM, because they end their own children. After half of `grace`, all that are left get
    it (an RQ worker finishes its job at the first SIGTERM, and stops at the second). SIGKILL comes last.
    Takes at most `grace + kill_after` seconds. Deletes the records of ended processes.
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
    for record in records:  # processes that were started meanwhile
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
    """Wait until all are gone or zombies; False if that takes longer than `seconds`."""
    end_at = time.monotonic() + seconds
    while any(start_mark(pid) == mark for pid, mark in members.items()):
        if time.monotonic() >= end_at:
            return False
        time.sleep(0.05)
    return True
