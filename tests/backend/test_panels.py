"""Every panel that is known by name: it can be opened here or says what it needs; and the commands that choose one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mollm.annotators import runtimes
from mollm.errors import ConfigError
from mollm_backend import packages, panels, settings
from mollm_backend.cli import app

NAMES = sorted(panels.files(Path("/nowhere")))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOLLM_HOME", str(tmp_path))
    monkeypatch.delenv("MOLLM_PANEL", raising=False)
    return tmp_path


def run(*words: str) -> str:
    done = CliRunner().invoke(app, ["panel", *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_the_panels_that_ship() -> None:
    assert {"tiny", "topics", "small", "decisions", "gpu-24gb", "gpu-80gb"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_panel_is_described_and_its_members_can_be_had(name: str, tmp_path: Path) -> None:
    panel = panels.load(name, tmp_path)
    assert panel.about
    assert panel.instruction
    assert len(panel.annotators) >= 2, "one LLM is no mixture"
    for member in panel.annotators:
        assert member.runtime in runtimes()
        assert packages.to_fetch(member) or member.url, f"{member.name}: nothing says where its model comes from"


@pytest.mark.parametrize("name", ["topics", "small", "decisions"])
def test_it_is_tiny_and_more(name: str, tmp_path: Path) -> None:
    more, tiny = panels.load(name, tmp_path), panels.load("tiny", tmp_path)
    assert set(tiny.annotators) < set(more.annotators), "what the two have read is asked of nobody again"
    assert more.instruction == tiny.instruction


def test_the_default_is_tiny_and_a_panel_is_given_by_name_or_by_path(home: Path) -> None:
    assert settings.load().panel_config() == panels.load("tiny", home)
    mine = home / "mine.toml"
    mine.write_text('[[annotators]]\nname = "a"\nmodel = "m"\n')
    assert settings.Settings(panel=str(mine), home=home).panel_config().annotators[0].name == "a"
    assert settings.Settings(panel=mine, home=home).panel == str(mine)
    with pytest.raises(ConfigError, match=r"There is no panel 'tini': choose one of decisions, gpu-24gb, .*tiny"):
        panels.load("tini", home)
    with pytest.raises(ConfigError, match="There is no panel file at"):
        panels.load(str(home / "none.toml"), home)


def test_a_panel_of_the_home_is_found_by_its_name_and_outranks_ours(home: Path) -> None:
    (home / "panels").mkdir()
    for name in ("own", "tiny"):
        (home / "panels" / f"{name}.toml").write_text(f'[[annotators]]\nname = "{name}"\nmodel = "m"\n')
        assert panels.load(name, home).annotators[0].name == name
    assert "own" in run("list")


def test_use_writes_the_setting_and_keeps_the_others(home: Path) -> None:
    file = home / settings.FILE
    file.write_text("LABEL_STUDIO_API_KEY=secret\nMOLLM_PANEL=tiny\n")
    told = run("use", "small")
    assert file.read_text() == "LABEL_STUDIO_API_KEY=secret\nMOLLM_PANEL=small\n"
    assert file.stat().st_mode & 0o777 == 0o600
    assert "smollm2, gemma3, qwen-coder read from the next `mollm up` on" in " ".join(told.split())
    assert settings.load().panel_config() == panels.load("small", home)
    assert json.loads(run("list", "--json"))["used"] == "small"
    with pytest.raises(ConfigError, match="There is no panel 'huge'"):
        run("use", "huge")
    assert "MOLLM_PANEL=small" in file.read_text()


def test_use_says_what_outranks_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLLM_PANEL", "tiny")
    assert "outranks the file: unset it" in run("use", "small")


def test_list_names_every_panel_with_its_models(home: Path) -> None:
    rows = {row["name"]: row for row in json.loads(run("list", "--json"))["panels"]}
    assert rows.keys() == set(NAMES)
    assert [name for name, row in rows.items() if row["used"]] == ["tiny"]
    assert all(row["models"] and row["about"] for row in rows.values())
