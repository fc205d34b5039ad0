"""connect, doctor and disconnect as a person types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mollm.errors import ConfigError
from mollm_backend.cli import app
from mollm_backend.labelstudio.client import LabelStudioClient
from tests.real_label_studio import RealLabelStudio, free_port


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOLLM_HOME", str(tmp_path))
    monkeypatch.setenv("LABEL_STUDIO_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "some-token")
    monkeypatch.delenv("REDIS_URL", raising=False)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    return tmp_path


def run(*words: str) -> Any:
    return CliRunner().invoke(app, list(words))


def test_doctor_says_that_the_server_is_down_and_exits_1(home: Path) -> None:
    done = run("doctor", "--json")
    assert done.exit_code == 1
    finding = json.loads(done.stdout)[0]
    assert finding["name"] == "server"
    assert "LABEL_STUDIO_URL" in finding["fix"]
    done = run("doctor")
    assert "Fix: " in done.stdout
    assert "Traceback" not in done.output


def test_a_missing_token_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "")
    assert isinstance(run("doctor").exception, ConfigError)  # `main` prints its one line


def test_wrong_usage_exits_2(home: Path) -> None:
    assert run("connect").exit_code == 2
    assert run("disconnect", "--project", "x").exit_code == 2


@pytest.mark.label_studio
def test_the_three_commands_on_a_real_server(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    studio: RealLabelStudio,
    client: LabelStudioClient,
    recorder: Any,
    make_project: Callable[..., tuple[int, list[int]]],
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", studio.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", studio.token)
    project, _ids = make_project(3)
    done = run("connect", "--project", str(project), "--backend-url", recorder.url)
    assert done.exit_code == 0, done.output
    assert "Red, g, Blue" in done.stdout
    assert "problem" not in done.stdout
    assert run("doctor").exit_code == 0
    assert run("doctor", "--project", str(project), "--accept-loss").exit_code == 0
    done = run("disconnect", "--project", str(project))
    assert done.exit_code == 0
    assert "Sequential sampling" in done.stdout
    assert client.webhooks(project) == []
    assert run("doctor").exit_code == 1  # not connected any more
    for secret in (studio.token, (home / "secrets" / "webhook_secret").read_text()):
        assert secret not in done.output
