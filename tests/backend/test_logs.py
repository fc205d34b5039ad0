"""What is written to the logs when something unexpected happens."""

from __future__ import annotations

import pytest
import structlog

from mollm_backend import logs


def test_a_traceback_names_the_place_and_shows_no_variable(capsys: pytest.CaptureFixture[str]) -> None:
    before = structlog.get_config()
    logs.set_up()
    try:
        _fail("-".join(("a", "token")))  # only as a value, not in any line of this file
    except ValueError as error:
        structlog.get_logger().error("job failed", job="reconcile-1", exc_info=error)
    finally:
        structlog.configure(**before)
    written = capsys.readouterr().out
    assert "reconcile-1" in written
    assert "in _fail" in written
    assert "-".join(("a", "token")) not in written


def _fail(token: str) -> None:
    raise ValueError(f"{len(token)} letters")
