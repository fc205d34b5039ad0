"""Start child processes, watch them, restart those that end, and end them all."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from mollm.errors import MollmError
from mollm_backend.supervisor import records
from mollm_backend.supervisor.launch import start_mark
from mollm_backend.supervisor.records import FAMILY_VARIABLE, Record
from mollm_backend.wheels import Tell

LOG_BYTES = 20 * 1024 * 1024  # a larger log is set aside at the next start; a guess between history and disk space
STEADY_SECONDS = 60.0  # after this time without an end, pauses begin again at 1 s; a guess
LONGEST_PAUSE = 60.0  # seconds before a restart; a guess between a quick recovery and a busy machine
_LAUNCHER = str(Path(__file__).with_name("launch.py"))


class Stopped(BaseException):
    """SIGINT, SIGTERM or SIGHUP arrived. A BaseException, so that `except Exception` does not catch it."""


class ChildFailed(MollmError):
    """A child failed that had to succeed."""


@dataclass(frozen=True)
class Program:
    """A program to run. `environment` is added to our own; `niceness` is 0 to 19; `keep`: open files to inherit."""

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    niceness: int = 0
    keep: tuple[int, ...] = ()


@dataclass
class Child:
    """A program that runs or waits for a restart. `falls`: its ends in a row; `log_start`: where its log begins."""

    program: Program
    process: subprocess.Popen[bytes]
    log: Path
    log_start: int
    started_at: float
    falls: int = 0
    start_again_at: float | None = None

    def last_lines(self, count: int = 3) -> str:
        """The last lines that this run has written, for an error message."""
        with self.log.open("rb") as handle:
            handle.seek(self.log_start)
            lines = [line for line in handle.read().decode(errors="replace").splitlines() if line.strip()]
        return " | ".join(lines[-count:]) or "it wrote nothing"


class Family:
    """All children of one `mollm up`. Use it in the main thread only, because signals are delivered there.

    `grace`: seconds between SIGTERM and SIGKILL.
    """

    def __init__(self, home: Path, tell: Tell, grace: float = 8.0) -> None:
        self.home = home
        self.run = home / "run"
        self.logs = home / "logs"
        for directory in (self.run, self.logs):
            directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.tell = tell
        self.grace = grace
        self.settled = False  # the caller sets it after its set-up; a stop is then no failure
        self.children: dict[str, Child] = {}
        self._stop_asked = False
        self._in_birth = False

    def end_orphans(self) -> None:
        """End the processes of an earlier, killed `mollm up` of this home; they are known by pid and start time."""
        ended = records.end(records.read(self.run), self.home, grace=self.grace)
        if ended:
            self.tell(f"ended what an earlier run left behind: {', '.join(ended)}")

    @contextlib.contextmanager
    def until_stopped(self) -> Iterator[None]:
        """In this context, the first stop signal raises Stopped. At its end, all children are ended."""
        numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, self._asked) for number in numbers}
        try:
            yield
        finally:
            self._stop_asked = True  # further signals are ignored: ending takes at most 15 s anyway
            self.end_all()
            for number, handler in before.items():
                signal.signal(number, handler)

    def _asked(self, _number: int, _frame: FrameType | None) -> None:
        if self._stop_asked:
            return
        self._stop_asked = True
        if not self._in_birth:
            raise Stopped

    def start(self, program: Program) -> Child:
        """Start a program in its own session, with its output in `logs/<name>.log`. Raises Stopped after a signal."""
        log = self.logs / f"{program.name}.log"
        if log.exists() and log.stat().st_size > LOG_BYTES:
            log.replace(log.with_suffix(".log.1"))
        earlier = self.children.get(program.name)
        self._in_birth = True  # an exception between fork and `self.children` would lose the child
        try:
            with log.open("ab") as out:
                log_start = out.seek(0, os.SEEK_END)
                process = subprocess.Popen(
                    self._command(program),
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env={**os.environ, **program.environment, FAMILY_VARIABLE: str(self.home)},
                    start_new_session=True,
                    pass_fds=program.keep,
                )
            child = Child(program, process, log, log_start, time.monotonic(), earlier.falls if earlier else 0)
            self.children[program.name] = child
        finally:
            self._in_birth = False
        if self._stop_asked:
            raise Stopped
        return child

    def _command(self, program: Program) -> list[str]:
        record = self.run / f"{program.name}.child.json"
        return [
            sys.executable, "-I", "-S", _LAUNCHER, str(record), str(program.niceness), str(os.getpid()),
            *program.command,
        ]  # fmt: skip

    def complete(self, *lanes: Iterator[Program], meanwhile: Callable[[], None] = lambda: None) -> None:
        """Run several lanes at the same time, and the programs of each lane one after another, until all have ended.

        A lane gives its next program when the one before has succeeded. `meanwhile` is called while this waits.
        Raises ChildFailed, with its last lines, when a program fails.
        """
        running = {lane: child for lane in lanes if (child := self._next(lane))}
        while running:
            for lane, child in list(running.items()):
                if child.process.poll() is None:
                    continue
                if child.process.returncode:
                    raise ChildFailed(f"{child.program.name} failed: {child.last_lines()} (all of it: {child.log})")
                meanwhile()
                self.forget(child)
                following = self._next(lane)
                running = {key: value for key, value in running.items() if key is not lane}
                running |= {lane: following} if following else {}
            meanwhile()
            time.sleep(0.2)

    def _next(self, lane: Iterator[Program]) -> Child | None:
        program = next(lane, None)
        return None if program is None else self.start(program)

    def forget(self, child: Child) -> None:
        """Stop watching a child that has succeeded, and end what is left in its session."""
        self.children.pop(child.program.name, None)
        self._end([child.program.name], grace=1.0)

    def watch(self) -> None:
        """Restart children that ended, after a pause that doubles each time (1 s to 60 s). Call this every second."""
        now = time.monotonic()
        for child in list(self.children.values()):
            code = child.process.poll()
            if code is None:
                if child.falls and now - child.started_at > STEADY_SECONDS:
                    child.falls = 0
            elif child.start_again_at is None:
                pause = min(2.0**child.falls, LONGEST_PAUSE)
                child.falls += 1
                child.start_again_at = now + pause
                how = f"signal {-code}" if code < 0 else f"code {code}"
                self.tell(f"{child.program.name} ended ({how}: {child.last_lines(1)}); again in {pause:.0f} s")
            elif now >= child.start_again_at:
                self._end([child.program.name], grace=2.0)  # the processes that it started
                self.start(child.program)

    def end_all(self) -> None:
        """End every child within 15 s. Valkey is the last, so that the others can still use the queue."""
        self._end([name for name in self._names() if name != "valkey"], grace=self.grace)
        self._end(self._names(), grace=3.0)
        for child in self.children.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                child.process.wait(0.5)
        self.children.clear()

    def _names(self) -> list[str]:
        return sorted({record.name for record in self._records()} | set(self.children))

    def _records(self) -> list[Record]:
        """All records, and one made here for each child that has not written its own yet."""
        known = {record.name: record for record in records.read(self.run)}
        for name, child in self.children.items():
            pid = child.process.pid
            if (name not in known or known[name].pid != pid) and (mark := start_mark(pid)):
                known[name] = Record(name, pid, mark, self.run / f"{name}.child.json")
        return list(known.values())

    def _end(self, names: list[str], grace: float) -> None:
        records.end([record for record in self._records() if record.name in names], self.home, grace=grace)
