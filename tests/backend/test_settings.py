"""Where settings come from: the environment, and under it the home's own file."""

from __future__ import annotations

from pathlib import Path

import pytest

from mollm.errors import ConfigError
from mollm_backend import settings


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY", "MOLLM_PORT", "REDIS_URL", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MOLLM_HOME", str(tmp_path))
    return tmp_path


def test_the_homes_file_gives_what_the_environment_does_not(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.load().label_studio_unset() == ["LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"]
    (home / settings.FILE).write_text("LABEL_STUDIO_URL=http://file:8080\nLABEL_STUDIO_API_KEY='k'\nMOLLM_PORT=9191\n")
    found = settings.load()
    assert (found.label_studio_url, found.port, found.label_studio_unset()) == ("http://file:8080", 9191, [])
    assert found.label_studio_api_key.get_secret_value() == "k"
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://environment:8080")
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "")  # as compose files pass what is not set
    found = settings.load()
    assert (found.label_studio_url, found.label_studio_unset()) == ("http://environment:8080", [])


def test_a_wrong_value_in_the_file_is_named(home: Path) -> None:
    (home / settings.FILE).write_text("MOLLM_PORT=many\n")
    with pytest.raises(ConfigError, match="MOLLM_PORT"):
        settings.load()


def test_where_mollm_up_serves_is_remembered(home: Path) -> None:
    assert settings.load().running_backend() == ""
    (home / "run").mkdir()
    settings.note_backend(home, "http://127.0.0.1:9093")
    assert settings.load().running_backend() == "http://127.0.0.1:9093"
