"""The order of a whole run (quick tests first, the slow real parts last), and what those need to be there."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

SLOW_PARTS = ("real_llm", "label_studio", "browser", "vllm")
SET_UP_SECONDS = 3000


def heavy_home() -> Path:
    """Where Label Studio and the models are kept between runs; tests make their own homes for all else."""
    return Path(os.environ.get("MOLLM_HOME", "~/.mollm")).expanduser()


def _slowness(item: pytest.Item) -> int:
    return max((n for n, name in enumerate(SLOW_PARTS, start=1) if item.get_closest_marker(name)), default=0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_slowness)  # stable: files stay together
    for item in items:
        if _slowness(item) and not item.get_closest_marker("timeout"):
            # The first of them also waits for what is being installed beside the quick tests.
            item.add_marker(pytest.mark.timeout(SET_UP_SECONDS))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Under `make test`, wait until Label Studio and the models are there; elsewhere the tests skip without them."""
    if _slowness(item) and os.environ.get("MOLLM_TEST_PREPARE") == "1":
        command = [sys.executable, "-m", "mollm_backend.cli", "prepare"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        os.environ.pop("MOLLM_TEST_PREPARE")
        if done.returncode:
            pytest.exit(f"`mollm prepare` failed, so nothing real can be tested: {done.stdout[-2000:]}", 1)
