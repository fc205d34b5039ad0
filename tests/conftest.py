"""The order of a whole run (quick tests first, the slow real parts last), and what those need to be there.

No test of `make test` depends on speed: hypothesis draws the same examples every time and has no deadline, and a
timeout anywhere only bounds a hang. Bars on speed hold under `make faults` (MOLLM_BARS=1), which ends with the figures.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import HealthCheck, settings

from .postgres import database_url, postgres
from .sqlite import migrated_once

__all__ = ["database_url", "migrated_once", "postgres"]

settings.register_profile("mollm", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("mollm")

SLOW_PARTS = ("real_llm", "label_studio", "browser", "vllm")
SET_UP_SECONDS = 6000
BARS_HOLD = os.environ.get("MOLLM_BARS") == "1"


def heavy_home() -> Path:
    """Where Label Studio and the models are kept between runs; tests make their own homes for all else."""
    return Path(os.environ.get("MOLLM_HOME", "~/.mollm")).expanduser()


def absent(reason: str) -> NoReturn:
    """A part that is installed for whole runs is not there: these fail, others skip."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


def _slowness(item: pytest.Item) -> int:
    return max((n for n, name in enumerate(SLOW_PARTS, start=1) if item.get_closest_marker(name)), default=0)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    slowest: dict[Path, int] = {}
    for item in items:
        slowest[item.path] = max(_slowness(item), slowest.get(item.path, 0))
        if _slowness(item) and not item.get_closest_marker("timeout"):
            # The first of them also waits for what is being installed beside the quick tests.
            item.add_marker(pytest.mark.timeout(SET_UP_SECONDS))
    items.sort(key=lambda item: slowest[item.path])  # stable, and a file stays whole: one process runs it


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Under `make test`, wait until Label Studio and the models are there; elsewhere the tests skip without them.

    Each process of the run waits by its own `mollm prepare`: these wait for each other, and the last find all done.
    """
    if _slowness(item) and os.environ.get("MOLLM_TEST_PREPARE") == "1":
        command = [sys.executable, "-m", "mollm_backend.cli", "prepare"]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        os.environ.pop("MOLLM_TEST_PREPARE")
        if done.returncode:
            item.session.shouldstop = "`mollm prepare` failed, so nothing real can be tested"
            pytest.fail(f"{item.session.shouldstop}: {done.stdout[-2000:]}")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    outcome = yield
    outcome.get_result().is_fault_run = item.get_closest_marker("faults") is not None  # type: ignore[attr-defined]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the runs of `make faults` measured, a paragraph each."""
    reports = [report for outcome in ("passed", "failed") for report in terminalreporter.stats.get(outcome, [])]
    ran = [report for report in reports if getattr(report, "is_fault_run", False) and report.capstdout.strip()]
    if ran:
        terminalreporter.section("figures")
    for report in ran:
        terminalreporter.write_line(f"{report.outcome} {report.nodeid} ({report.duration:.0f} s)")
        for line in report.capstdout.strip().splitlines():
            terminalreporter.write_line(f"    {line}")
