"""`mollm up` as a process, without Label Studio: what it starts, how it ends, what a `kill -9` leaves."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest
from typer.testing import CliRunner

from mollm.records import LabelSet
from mollm_backend.cli import app
from mollm_backend.demo import run as demo_run
from mollm_backend.store.decisions import Decision, Source
from mollm_backend.store.projects import Project
from mollm_backend.supervisor import records
from mollm_backend.supervisor.launch import die_with, start_mark
from mollm_backend.supervisor.processes import Family
from tests.conftest import BARS_HOLD
from tests.real_label_studio import free_port
from tests.waiting import LONG, eventually

# No model is fetched for these tests.
PANEL = """
[[annotators]]
name = "nobody"
runtime = "openai"
model = "none"
url = "http://127.0.0.1:9"
"""
PARTS = {"valkey", "web", "worker"}


class Run:
    """One `mollm up` in `home`, its output in `home/up.log`."""

    def __init__(self, home: Path) -> None:
        kept = ("PATH", "HOME", "LANG", "VIRTUAL_ENV")
        environment = {name: os.environ[name] for name in kept if name in os.environ}
        self.port = free_port()
        panel = home / "panel.toml"
        panel.write_text(PANEL)
        environment |= {"MOLLM_HOME": str(home), "MOLLM_PORT": str(self.port)}
        environment |= {"MOLLM_PANEL": str(panel), "MOLLM_ENCODER": "none"}
        self.home = home
        command = [sys.executable, "-m", "mollm_backend.cli", "up"]
        with (home / "up.log").open("ab") as out:
            self.process = subprocess.Popen(
                command, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True,
                preexec_fn=partial(die_with, os.getpid()),
            )  # fmt: skip

    def output(self) -> str:
        return (self.home / "up.log").read_text()

    def marks(self) -> dict[int, str]:
        """All processes that belong to this home's records, with their start times."""
        found = [pid for record in records.read(self.home / "run") for pid in records.family(record, self.home)]
        return {pid: mark for pid in found if (mark := start_mark(pid))}

    def wait_until_up(self) -> None:
        def is_up() -> bool:
            assert self.process.poll() is None, self.output()
            try:
                healthy = httpx.get(f"http://127.0.0.1:{self.port}/health", timeout=10).status_code == 200
            except httpx.HTTPError:
                return False
            return healthy and {record.name for record in records.read(self.home / "run")} == PARTS

        assert eventually(is_up, LONG), self.output()


def _catches(pid: int, number: signal.Signals) -> bool:
    """Whether a process has a handler of its own for a signal (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught, 16) >> (number - 1) & 1)


@pytest.fixture
def home() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="mollm-up-"))  # short, for the socket's sake
    yield path
    shutil.rmtree(path)


@pytest.fixture
def start(home: Path) -> Iterator[Callable[[], Run]]:
    """Starts `mollm up`; whatever a failed test left is ended."""
    runs: list[Run] = []

    def start() -> Run:
        runs.append(Run(home))
        return runs[-1]

    yield start
    for run in runs:
        run.process.kill()
        run.process.wait()
    records.end(records.read(home / "run"), home, grace=1.0)


@pytest.mark.faults
def test_ctrl_c_ends_all_and_nothing_else(home: Path, start: Callable[[], Run]) -> None:
    before = {process.pid: process.create_time() for process in psutil.process_iter() if process.status() != "zombie"}
    run = start()
    run.wait_until_up()
    assert eventually(lambda: str(run.port) in run.output(), LONG), "it is said just after the last part's start"
    marks = run.marks()
    web = next(record for record in records.read(home / "run") if record.name == "web")
    maps = "".join(Path(f"/proc/{pid}/maps").read_text() for pid in records.family(web, home))
    assert "python" in maps
    assert not [name for name in ("libtorch", "tokenizers", "safetensors") if name in maps], "the web loads no model"
    with subprocess.Popen(["sleep", "300"]) as neighbour:
        started = time.monotonic()
        run.process.send_signal(signal.SIGINT)
        assert run.process.wait(LONG) == 0, run.output()
        took = time.monotonic() - started
        print(f"Ctrl-C ended everything in {took:.1f} s (bar: 20)")
        assert took < 20 or not BARS_HOLD
        assert neighbour.poll() is None
        neighbour.kill()
    assert [pid for pid, mark in marks.items() if start_mark(pid) == mark] == []
    left = [
        process
        for process in psutil.process_iter()
        if process.pid not in before and _home_of(process) == str(home) and process.status() != "zombie"
    ]
    assert left == []
    assert not records.read(home / "run")


@pytest.mark.faults
def test_after_kill_9_the_next_start_ends_the_orphans_and_runs(home: Path, start: Callable[[], Run]) -> None:
    first = start()
    first.wait_until_up()
    marks = first.marks()
    worker = next(record for record in records.read(home / "run") if record.name == "worker")
    assert eventually(lambda: _catches(worker.pid, signal.SIGTERM), LONG), (
        "without a handler SIGTERM ends a stopped one"
    )
    os.kill(worker.pid, signal.SIGSTOP)  # a hung orphan: deaf to everything but SIGKILL
    first.process.kill()
    first.process.wait()
    second = start()
    assert eventually(lambda: all(start_mark(pid) != mark for pid, mark in marks.items()), LONG), second.output()
    second.wait_until_up()
    assert "ended what an earlier run left behind" in second.output()
    second.process.terminate()
    assert second.process.wait(LONG) == 0


@pytest.mark.faults
def test_a_killed_part_is_started_anew_and_a_second_up_is_refused(home: Path, start: Callable[[], Run]) -> None:
    run = start()
    run.wait_until_up()
    web = next(record for record in records.read(home / "run") if record.name == "web")
    for pid in records.family(web, home):
        with contextlib.suppress(ProcessLookupError):  # it had time to follow its master
            os.kill(pid, signal.SIGKILL)
    assert eventually(lambda: "web ended (signal 9" in run.output(), LONG)
    for _ in range(5):  # while it is away and after it is back
        assert httpx.get(f"http://127.0.0.1:{run.port}/health", timeout=LONG).status_code == 200, "the request waits"
    now = next(record for record in records.read(home / "run") if record.name == "web")
    assert now.pid != web.pid
    second = start()
    assert second.process.wait(LONG) == 1
    assert f"already runs in {home} (pid {run.process.pid})" in run.output()
    run.process.send_signal(signal.SIGHUP)
    assert run.process.wait(LONG) == 0


@pytest.mark.parametrize(("settled", "code"), [(False, 1), (True, 0)])
def test_a_stop_during_set_up_is_no_success(
    home: Path, monkeypatch: pytest.MonkeyPatch, settled: bool, code: int
) -> None:
    def stopped(_settings: object, family: Family, _tell: object) -> None:
        family.settled = settled
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)

    monkeypatch.setenv("MOLLM_HOME", str(home))
    monkeypatch.setattr(demo_run, "run", stopped)
    result = CliRunner().invoke(app, ["up"])
    assert result.exit_code == code
    assert "all ended" in result.output


def test_options_of_the_demo_need_the_demo() -> None:
    result = CliRunner().invoke(app, ["up", "--limit", "5"])
    assert result.exit_code == 2
    assert "belong to --demo" in result.output


def _home_of(process: psutil.Process) -> str | None:
    try:
        found: str | None = process.environ().get(records.FAMILY_VARIABLE)
    except (psutil.Error, OSError):
        return None
    return found


def test_a_port_that_moved_is_said_for_the_projects_that_were_connected_to_the_old_one() -> None:
    def connected(number: int, url: str, *, still: bool = True) -> Project:
        asked = (Decision("label", (Source("text", "text"),), LabelSet(("cat", "dog"))),)
        connection = {"backend_url": url}
        return Project(number, "http://ls", "t", "", "<View/>", asked, connected=still, connection=connection)

    here = "http://127.0.0.1:9091"
    rows = [
        connected(1, "http://127.0.0.1:9090"),
        connected(2, "http://localhost:9091"),
        connected(3, "http://10.0.0.5:9090"),  # another way to reach us, which we cannot judge
        connected(4, "http://127.0.0.1:9090", still=False),
    ]
    [line] = demo_run.moved(rows, here)
    assert "project 1 " in line
    assert "`mollm connect 1`" in line
