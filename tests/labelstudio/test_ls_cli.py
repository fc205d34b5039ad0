"""connect, doctor and disconnect as a person types them."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mollm.errors import ConfigError
from mollm.records import LabelSet
from mollm_backend import settings
from mollm_backend.cli import app
from mollm_backend.cli import connect as commands
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.store import Store, projects
from mollm_backend.store.decisions import Decision, Source
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


def problems(*words: str) -> set[str]:
    done = run(*words, "--json")
    found = {row["name"] for row in json.loads(done.stdout) if row["kind"] == "problem"}
    assert done.exit_code == int(bool(found))
    return found


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
    assert run("connect", "1", "--project", "2").exit_code == 2


def test_the_backends_address_where_none_is_given(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(Store(settings.load().store_url)) as store:

        def chosen() -> str:
            return commands._address(store, settings.load(), 1)

        assert chosen() == "http://127.0.0.1:9090"
        (home / "run").mkdir()
        settings.note_backend(home, "http://127.0.0.1:9091")  # `mollm up` found 9090 busy
        assert chosen() == "http://127.0.0.1:9091"
        asked = (Decision("label", (Source("text", "text"),), LabelSet(("cat", "dog"))),)
        connected = {"backend_url": "http://10.0.0.5:9090", "ml_backend": 3}
        projects.save(store, projects.Project(1, "http://x", "t", "", "<View/>", asked, connection=connected))
        assert chosen() == "http://10.0.0.5:9090"  # connecting again repairs, it does not move the backend
        monkeypatch.setenv("MOLLM_BACKEND_URL", "http://10.0.0.6:9090")
        assert chosen() == "http://10.0.0.6:9090"


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
    assert "Taken in: 3 tasks" in done.stdout
    assert problems("doctor") == {"no-queue"}  # no `mollm up` runs here
    assert problems("doctor", str(project), "--accept-loss") == {"no-queue"}
    assert "Classify the text by its topic." in done.stdout
    again = ("connect", str(project), "--backend-url", recorder.url, "--instruction", "Name the colour.")
    done = run(*again)  # the number without --project, and a second time
    assert done.exit_code == 0, done.output
    assert "Name the colour." in done.stdout
    done = run("disconnect", "--project", str(project))
    assert done.exit_code == 0
    assert "Sequential sampling" in done.stdout
    assert client.webhooks(project) == []
    assert "not-connected" in problems("doctor")
    for secret in (studio.token, (home / "secrets" / "webhook_secret").read_text()):
        assert secret not in done.output
