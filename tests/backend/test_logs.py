"""What is written to the logs when something unexpected happens."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
import structlog

from mollm_backend import logs


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Each test sets up logging in its own way."""
    before, root = structlog.get_config(), logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.configure(**before)
    root.handlers[:], root.level = handlers, level


def test_every_line_of_a_job_names_its_project(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up()
    logging.getLogger().handlers.clear()
    logs.set_up_libraries()
    with logs.about(project=3, job="train"):
        structlog.get_logger().info("training", line="fusing")
        logging.getLogger("some.library").warning("slow")
    structlog.get_logger().info("idle")
    captured = capsys.readouterr()
    mine, idle = captured.out.splitlines()
    assert "project=3" in mine
    assert "job=train" in mine
    assert "project" not in idle
    assert "slow" in captured.err
    assert "project=3" in captured.err


def test_what_is_not_known_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up()
    with logs.about(project=None, job="sweep"):
        structlog.get_logger().info("a line")
    assert "project" not in capsys.readouterr().out


def test_the_level_decides_what_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up("WARNING")
    structlog.get_logger().info("quiet")
    structlog.get_logger().warning("loud")
    said = capsys.readouterr().out
    assert "loud" in said
    assert "quiet" not in said


def test_a_traceback_names_the_place_and_shows_no_variable(capsys: pytest.CaptureFixture[str]) -> None:
    logs.set_up()
    try:
        _fail("-".join(("a", "token")))  # only as a value, not in any line of this file
    except ValueError as error:
        structlog.get_logger().error("job failed", job="reconcile-1", exc_info=error)
    written = capsys.readouterr().out
    assert "reconcile-1" in written
    assert "in _fail" in written
    assert "-".join(("a", "token")) not in written


def _fail(token: str) -> None:
    raise ValueError(f"{len(token)} letters")
