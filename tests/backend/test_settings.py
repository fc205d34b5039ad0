"""Where settings come from: the environment, and under it the home's own file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import SecretStr

from mollm.errors import ConfigError
from mollm_backend import settings

# The field, the name that Label Studio's own ML backends know, ours, and two values.
THEIRS = (
    ("port", "PORT", "MOLLM_PORT", 9191, 9292),
    ("basic_auth_user", "BASIC_AUTH_USER", "MOLLM_BASIC_AUTH_USER", "ann", "bob"),
    ("basic_auth_password", "BASIC_AUTH_PASS", "MOLLM_BASIC_AUTH_PASSWORD", SecretStr("a" * 9), SecretStr("b" * 9)),
    ("model_dir", "MODEL_DIR", "MOLLM_MODEL_DIR", Path("/models"), Path("/more")),
    ("log_level", "LOG_LEVEL", "MOLLM_LOG_LEVEL", "DEBUG", "ERROR"),
)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY", "REDIS_URL", "DATABASE_URL",
        *(f"{prefix}{name}" for _, name, *_ in THEIRS for prefix in ("MOLLM_", "")), "MOLLM_BASIC_AUTH_PASSWORD",
    ):  # fmt: skip
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


def plain(value: object) -> str:
    return value.get_secret_value() if isinstance(value, SecretStr) else str(value)


@pytest.mark.parametrize(("field", "theirs", "ours", "one", "other"), THEIRS)
def test_the_names_of_label_studios_ml_backends_are_understood_and_ours_win(
    home: Path, monkeypatch: pytest.MonkeyPatch, field: str, theirs: str, ours: str, one: object, other: object
) -> None:
    monkeypatch.setenv(theirs, plain(one))
    assert getattr(settings.load(), field) == one
    assert theirs in (settings.Settings.model_fields[field].description or "")
    monkeypatch.setenv(ours, plain(other))
    assert getattr(settings.load(), field) == other
    monkeypatch.delenv(ours)
    monkeypatch.delenv(theirs)
    (home / settings.FILE).write_text(f"{theirs}={plain(one)}\n{ours}={plain(other)}\n")
    assert getattr(settings.load(), field) == other
    monkeypatch.setenv(theirs, plain(one))
    assert getattr(settings.load(), field) == one, "the environment outranks the file"


def test_the_models_lie_where_model_dir_says(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert settings.load().models_dir == home / "models"
    monkeypatch.setenv("MODEL_DIR", str(home / "elsewhere"))
    assert settings.load().models_dir == home / "elsewhere"


def test_a_level_is_understood_in_small_letters_and_a_wrong_one_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LOG_LEVEL", "warning")
    assert settings.load().log_level == "WARNING"
    monkeypatch.setenv("LOG_LEVEL", "loud")
    with pytest.raises(ConfigError, match="LOG_LEVEL"):
        settings.load()


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in settings.Settings.model_fields.items() if not field.description] == []


@pytest.fixture
def demo(home: Path) -> Path:
    """A demo runs in the home."""
    (home / settings.DEMO_FILE).write_text(json.dumps({"label_studio_url": "http://demo:8080", "token": "t"}))
    return home


def test_the_running_demo_is_found(demo: Path) -> None:
    found = settings.load()
    assert (found.label_studio_url, found.label_studio_unset()) == ("http://demo:8080", [])
    assert found.label_studio_api_key.get_secret_value() == "t"
    (demo / settings.DEMO_FILE).unlink()
    assert settings.load().label_studio_unset() == ["LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"]


def test_the_environment_and_the_file_outrank_the_demo(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "mine")
    found = settings.load()
    assert (found.label_studio_url, found.label_studio_api_key.get_secret_value()) == ("http://demo:8080", "mine")
    (demo / settings.FILE).write_text("LABEL_STUDIO_URL=http://file:8080\n")
    assert settings.load().label_studio_url == "http://file:8080"


def test_the_demos_token_is_for_no_other_server(demo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://other:8080")
    assert settings.load().label_studio_unset() == ["LABEL_STUDIO_API_KEY"]
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://demo:8080/")
    assert settings.load().label_studio_api_key.get_secret_value() == "t"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"label_studio_url": "http://demo:8080"}'])
def test_a_demo_file_that_cannot_be_used_is_left_out(demo: Path, content: str) -> None:
    (demo / settings.DEMO_FILE).write_text(content)
    assert len(settings.load().label_studio_unset()) == 2


def test_secrets_may_be_files(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    there = tmp_path / "mounted"
    there.mkdir()
    for name, value in (
        ("DATABASE_URL", "postgresql+psycopg://u:p@db/mollm\n"), ("label_studio_api_key", "from a file"),
        ("MOLLM_BASIC_AUTH_PASSWORD", "also from a file"), ("MOLLM_WEBHOOK_SECRET", "hook"),
    ):  # fmt: skip
        (there / name).write_text(value)
    monkeypatch.setenv("MOLLM_SECRETS_DIR", str(there))
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "")  # as compose files pass what is not set
    found = settings.load()
    assert found.database_url == "postgresql+psycopg://u:p@db/mollm"
    assert found.label_studio_api_key.get_secret_value() == "from a file"
    assert found.basic_auth_password.get_secret_value() == "also from a file"
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "from the environment")
    assert settings.load().label_studio_api_key.get_secret_value() == "from the environment"


def test_a_secret_that_may_not_be_read_is_named(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(self: Path, *args: object, **kwargs: object) -> str:
        raise PermissionError(13, "Permission denied", str(self))

    (tmp_path / "mounted").mkdir()
    (tmp_path / "mounted" / "DATABASE_URL").write_text("sqlite://")
    monkeypatch.setenv("MOLLM_SECRETS_DIR", str(tmp_path / "mounted"))
    monkeypatch.setattr(Path, "read_text", refused)
    with pytest.raises(ConfigError, match=r"Permission denied: .*DATABASE_URL"):
        settings.load()
