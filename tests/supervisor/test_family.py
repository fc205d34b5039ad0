"""Starting, watching and ending children, with real processes of a few lines each."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from mollm_backend.supervisor import processes, records
from mollm_backend.supervisor.launch import start_mark
from mollm_backend.supervisor.lock import HomeInUse, home_lock
from mollm_backend.supervisor.processes import ChildFailed, Family, Program, Stopped
from tests.waiting import eventually

DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(300)"
# A grandchild in a process group of its own, as a forking job runner makes them.
PARENT = (
    "import os, time, sys\npid = os.fork()\nif pid == 0:\n    os.setpgrp()\n    time.sleep(300)\n"
    "print(pid, flush=True)\ntime.sleep(300)\n"
)


def python(name: str, code: str) -> Program:
    return Program(name, (sys.executable, "-c", code))


@pytest.fixture
def family(tmp_path: Path) -> Iterator[Family]:
    lines: list[str] = []
    made = Family(tmp_path, lines.append, grace=1.0)
    yield made
    made.end_all()


def test_a_child_leaves_a_record_of_pid_and_start_time(family: Family) -> None:
    child = family.start(Program("sleeper", ("sleep", "300")))
    assert eventually(lambda: bool(records.read(family.run)))
    (record,) = records.read(family.run)
    assert (record.name, record.pid) == ("sleeper", child.process.pid)
    assert record.started == start_mark(child.process.pid)
    assert os.getsid(child.process.pid) == child.process.pid


def test_the_end_takes_grandchildren_and_the_deaf_along(family: Family) -> None:
    parent = family.start(python("parent", PARENT))
    deaf = family.start(python("deaf", DEAF))
    assert eventually(lambda: parent.log.read_text().strip().isdigit() and "deaf" in deaf.log.read_text())
    grandchild = int(parent.log.read_text())
    assert start_mark(grandchild) is not None
    family.end_all()
    assert [start_mark(pid) for pid in (parent.process.pid, deaf.process.pid, grandchild)] == [None] * 3
    assert not records.read(family.run)


def test_a_record_whose_start_time_is_another_ends_nobody(family: Family, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "300"], start_new_session=True) as stranger:
        facts = {"pid": stranger.pid, "started": "ticks 1 of boot long-ago", "program": ["sleep"]}
        (family.run / "worker.child.json").write_text(json.dumps(facts))
        family.end_orphans()
        try:
            assert stranger.poll() is None
            assert not records.read(family.run), "a record of what is gone is removed"
        finally:
            stranger.kill()


@pytest.mark.faults
def test_after_kill_9_the_next_start_ends_the_orphans_and_nobody_else(tmp_path: Path) -> None:
    script = textwrap.dedent(f"""
        import sys, time
        from pathlib import Path
        from mollm_backend.supervisor.processes import Family, Program
        family = Family(Path(sys.argv[1]), print)
        family.start(Program("deaf", (sys.executable, "-c", {DEAF!r})))
        family.start(Program("parent", (sys.executable, "-c", {PARENT!r})))
        time.sleep(300)
    """)
    stranger = subprocess.Popen([sys.executable, "-c", DEAF], start_new_session=True, stdout=subprocess.DEVNULL)
    supervisor = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)])
    try:
        logs = tmp_path / "logs"
        assert eventually(lambda: (logs / "parent.log").exists() and bool((logs / "parent.log").read_text().strip()))
        assert eventually(lambda: (logs / "deaf.log").exists() and bool((logs / "deaf.log").read_text().strip()))
        pids = [record.pid for record in records.read(tmp_path / "run")]
        grandchild = int((logs / "parent.log").read_text())
        os.kill(supervisor.pid, signal.SIGKILL)
        supervisor.wait()
        lines: list[str] = []
        Family(tmp_path, lines.append, grace=1.0).end_orphans()
        assert [start_mark(pid) for pid in [*pids, grandchild]] == [None] * 3
        assert "deaf" in lines[0]
        assert stranger.poll() is None
    finally:
        for process in (supervisor, stranger):
            process.kill()
            process.wait()


def test_what_falls_is_started_anew_after_a_growing_pause(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now, lines = 1000.0, list[str]()
    monkeypatch.setattr(processes, "time", SimpleNamespace(monotonic=lambda: now, sleep=time.sleep))
    family = Family(tmp_path, lines.append, grace=1.0)
    try:
        first = family.start(python("weak", "import time; time.sleep(0.05); raise SystemExit('no luck')"))
        first.process.wait()
        family.watch()
        assert lines == ["weak ended (code 1: no luck); again in 1 s"]
        family.watch()
        assert family.children["weak"] is first, "it must wait first"
        now += 1.1
        family.watch()
        second = family.children["weak"]
        assert second.process.pid != first.process.pid
        second.process.wait()
        family.watch()
        assert lines[-1].endswith("again in 2 s")
    finally:
        family.end_all()


def test_lanes_run_side_by_side_and_a_failure_says_its_last_line(family: Family, tmp_path: Path) -> None:
    def lane(*names: str) -> Iterator[Program]:
        for name in names:
            yield python(name, f"import time; time.sleep(0.3); open({str(tmp_path / name)!r}, 'w')")

    family.complete(lane("one", "two"), lane("three"))
    assert all((tmp_path / name).exists() for name in ("one", "two", "three"))
    assert not family.children
    with pytest.raises(ChildFailed, match="fetch failed: no network"):
        family.complete(iter([python("fetch", "raise SystemExit('no network')")]))
    with pytest.raises(ChildFailed, match="no-such-program: No such file"):
        family.complete(iter([Program("absent", ("no-such-program",))]))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_stop_signal_ends_all_also_in_the_middle_of_a_step(family: Family, number: signal.Signals) -> None:
    def press() -> None:
        if eventually(lambda: len(records.read(family.run)) == 2):
            os.kill(os.getpid(), number)

    pressed = False

    def once() -> None:
        nonlocal pressed
        if not pressed:
            pressed = True
            press()

    def step() -> None:
        with family.until_stopped():
            family.start(Program("server", ("sleep", "300")))
            family.complete(iter([Program("install", ("sleep", "300"))]), meanwhile=once)

    with pytest.raises(Stopped):
        step()
    assert not records.read(family.run)


def test_one_up_a_home(tmp_path: Path) -> None:
    with home_lock(tmp_path), pytest.raises(HomeInUse, match=f"pid {os.getpid()}"), home_lock(tmp_path):
        pass
    with home_lock(tmp_path):
        pass
