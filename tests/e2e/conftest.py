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
from pathlib import Path
from typing import Any

import pytest

from mollm_backend.supervisor import label_studio
from tests.conftest import heavy_home

CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
# Without the flags in the second line a browser start looks up its maker's hosts.
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--window-size=1400,1000",
    "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
)  # fmt: skip


@dataclass(frozen=True)
class Demo:
    """A running `mollm up --demo`. `facts` is what its demo.json says."""

    home: Path
    facts: dict[str, Any]
    log: Path

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()


def _absent(reason: str) -> None:
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


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
    if not label_studio.is_installed(heavy) or not (heavy / "models").is_dir():
        _absent(f"no Label Studio or no models in {heavy}: run `mollm prepare`")
    home = Path(tempfile.mkdtemp(prefix="mollm-e2e-"))  # short, for the socket's sake
    for name in ("label-studio", "models"):
        (home / name).symlink_to((heavy / name).resolve())
    log = home / "up.log"
    names = {name: value for name, value in os.environ.items() if not name.startswith(("MOLLM_", "LABEL_STUDIO_"))}
    names.pop("REDIS_URL", None)
    names.pop("DATABASE_URL", None)
    command = [sys.executable, "-m", "mollm_backend.cli", "up", "--demo", "--limit", "60"]
    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            env={**names, "MOLLM_HOME": str(home)},
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        told = home / "demo.json"
        wait_for(lambda: told.exists() or process.poll() is not None, 600, log.read_text)
        assert process.poll() is None, log.read_text()
        yield Demo(home, json.loads(told.read_text()), log)
        started = time.monotonic()
        process.send_signal(signal.SIGINT)
        process.wait(20)
        print(f"Ctrl-C took {time.monotonic() - started:.1f} s")
        assert not told.exists()
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(30)
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="session")
def browser(demo: Demo) -> Iterator[Any]:
    if not (CHROMIUM.exists() and CHROMEDRIVER.exists()):
        _absent("no chromium: as root, `apt-get install chromium chromium-driver`")
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={demo.home / 'chromium'}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(str(CHROMEDRIVER)))
    driver.set_page_load_timeout(120)
    yield driver
    driver.quit()
