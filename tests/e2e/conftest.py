"""`mollm up --demo` in a home of its own, and a headless Chromium."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from mollm_backend.supervisor import label_studio
from mollm_backend.supervisor.launch import die_with
from tests.conftest import absent, heavy_home
from tests.e2e.browser import chromium
from tests.waiting import LONG


@dataclass
class Demo:
    """`mollm up --demo` in `home`; `facts` is what its demo.json says while it runs."""

    home: Path
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        return self.home / "up.log"

    @property
    def told(self) -> Path:
        return self.home / "demo.json"

    @property
    def facts(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.told.read_text())
        return found

    def start(self) -> float:
        """Start and wait until the project is there; the seconds that it took."""
        ours = ("MOLLM_", "LABEL_STUDIO_", "REDIS_URL", "DATABASE_URL")
        environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        command = [sys.executable, "-m", "mollm_backend.cli", "up", "--demo", "--limit", "60"]
        started = time.monotonic()
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                command, env=environment | {"MOLLM_HOME": str(self.home)}, stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True, preexec_fn=partial(die_with, os.getpid()),
            )  # fmt: skip
        running = self.process
        wait_for(lambda: self.told.exists() or running.poll() is not None, LONG, self.log.read_text)
        assert running.poll() is None, self.log.read_text()
        return time.monotonic() - started

    def stop(self) -> float:
        """Ctrl-C; the seconds until all had ended."""
        assert self.process is not None
        started = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        assert self.process.wait(LONG) == 0, self.log.read_text()
        assert not self.told.exists()
        return time.monotonic() - started

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()


def wait_for(what: Callable[[], Any], seconds: float, why: Callable[[], str]) -> Any:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():
            return found
        time.sleep(0.5)
    raise AssertionError(f"not within {seconds:.0f} s: {why()}")


@pytest.fixture(scope="session")
def demo() -> Iterator[Demo]:
    heavy = heavy_home()
    if not label_studio.environment(heavy).is_installed() or not (heavy / "models").is_dir():
        absent(f"no Label Studio or no models in {heavy}: run `mollm prepare`")
    home = Path(tempfile.mkdtemp(prefix="mollm-e2e-"))  # short, for the socket's sake
    for name in ("label-studio", "models"):
        (home / name).symlink_to((heavy / name).resolve())
    demo = Demo(home)
    try:
        demo.start()
        yield demo
        print(f"Ctrl-C took {demo.stop():.1f} s")
    finally:
        if demo.process is not None and demo.process.poll() is None:
            demo.process.terminate()
            demo.process.wait(LONG)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def browser(demo: Demo) -> Iterator[Any]:
    with chromium(demo.home / "chromium") as driver:
        yield driver
