"""The command line's table: it says what the commands say, and `--help` imports nothing that is slow."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from mollm.errors import InputError, MollmError
from mollm.records import LabelSet
from mollm_backend import cli
from mollm_backend.cli import terminal
from mollm_backend.store import Store, now, projects, versions
from mollm_backend.store.decisions import Decision, Source
from mollm_backend.store.projects import Project

LATER = ("sklearn", "scipy", "numpy", "sqlalchemy", "alembic", "redis", "rq", "torch", "httpx", "pydantic",
         "mollm_backend.jobs", "mollm_backend.demo")  # fmt: skip


def first_line(text: str) -> str:
    return " ".join(inspect.cleandoc(text).split("\n\n")[0].split())


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_the_table_says_what_the_command_says(name: str) -> None:
    command = cli.load(name)
    assert command.name == name
    assert first_line(command.help or "") == cli.COMMANDS[name]
    done = CliRunner().invoke(cli.app, [name, "--help"])
    assert done.exit_code == 0
    assert "completion" not in done.output


def test_each_command_has_a_file_that_is_named_as_it_is_typed() -> None:
    folder = Path(cli.__file__).parent
    typed = [name.replace("-", "_") for name in cli.COMMANDS]
    typed += [f"{group}_{name}" for group in ("replay", "bench", "panel") for name in cli.load(group).commands]
    shared = {"__init__", "__main__", "terminal", "waiting"}
    assert {path.stem for path in folder.glob("*.py")} - shared == set(typed)


def test_help_lists_every_command_and_imports_none() -> None:
    program = (
        "import json, sys; from typer.testing import CliRunner; from mollm_backend.cli import app; "
        "done = CliRunner().invoke(app, ['--help']); print(json.dumps([done.output, sorted(sys.modules)]))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    output, modules = json.loads(told.stdout)
    assert all(name in output for name in cli.COMMANDS)
    assert [name for name in LATER if name in modules] == []


def test_starting_up_imports_neither_jobs_nor_models() -> None:
    program = "import json, sys; from mollm_backend.cli import load; load('up'); print(json.dumps(sorted(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    modules = json.loads(told.stdout)
    assert [name for name in ("mollm_backend.jobs", "sklearn", "torch", "mollm.round.run") if name in modules] == []


def test_an_unknown_command_is_wrong_usage() -> None:
    assert CliRunner().invoke(cli.app, ["nosuch"]).exit_code == 2
    assert CliRunner().invoke(cli.app, []).exit_code == 2
    assert isinstance(cli.load("replay"), typer.main.TyperGroup)


def test_version_short_help_and_a_misspelt_command() -> None:
    done = CliRunner().invoke(cli.app, ["--version"])
    assert done.exit_code == 0
    assert done.output.startswith("mollm ")
    assert CliRunner().invoke(cli.app, ["-h"]).output == CliRunner().invoke(cli.app, ["--help"]).output
    assert CliRunner().invoke(cli.app, ["versions", "-h"]).exit_code == 0
    done = CliRunner().invoke(cli.app, ["prelabl", "1"])
    assert done.exit_code == 2
    assert "Did you mean prelabel" in done.output


def test_help_groups_every_command() -> None:
    output = CliRunner().invoke(cli.app, ["--help"]).output
    at = [output.index(f"─ {heading} ─") for heading in cli.PANELS.values()]
    assert at == sorted(at)
    assert set(cli.PANELS) <= set(cli.COMMANDS)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOLLM_HOME", str(tmp_path))
    monkeypatch.setenv("REDIS_URL", "unix:///nowhere.sock")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    return tmp_path


def test_an_empty_home_says_what_to_do(home: Path) -> None:
    done = CliRunner().invoke(cli.app, ["report"])
    assert done.exit_code == 0
    assert "No project is connected yet: `mollm connect N`" in done.output
    assert "Cost" not in done.output
    for words in (["report", "3"], ["versions", "3"], ["train", "3"], ["demo-score"]):
        assert isinstance(CliRunner().invoke(cli.app, words).exception, MollmError)


def test_a_project_without_version_or_worker_says_what_to_do(home: Path) -> None:
    with closing(Store(f"sqlite:///{home / 'mollm.db'}")) as store:
        asked = (Decision("label", (Source("text", "text"),), LabelSet(("cat", "dog"))),)
        projects.save(store, Project(3, "http://x", "[red] pets", "", "<View/>", asked))
    for name in ("versions", "next-batch"):
        done = CliRunner().invoke(cli.app, [name, "3"])
        assert done.exit_code == 0
        assert "`mollm doctor 3`" in done.output
    assert "3 [red] pets" in CliRunner().invoke(cli.app, ["report", "3"]).output
    with pytest.raises(InputError, match="mollm up"):
        CliRunner().invoke(cli.app, ["train", "3"], catch_exceptions=False)
    for words, said in ((["prelabel", "3"], "`mollm doctor 3`"), (["prelabel", "3", "--version", "v"], "versions 3")):
        with pytest.raises(InputError, match=said):
            CliRunner().invoke(cli.app, words, catch_exceptions=False)


def test_a_version_is_listed_whole_in_eighty_columns(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal.console, "_width", 80)
    name = "mollm-12-7070e0c6"
    with closing(Store(f"sqlite:///{home / 'mollm.db'}")) as store:
        asked = (Decision("label", (Source("text", "text"),), LabelSet(("cat", "dog"))),)
        projects.save(store, Project(3, "http://x", "pets", "", "<View/>", asked))
        scores = {"accuracy": 0.871, "log_loss": 0.358, "ece": 0.109}
        found = {"labelled": {"value": 0.871, "n": 131, "low": 0.803, "high": 0.918}}
        facts = {"scores": scores, "accuracy": found}
        versions.save(store, 3, versions.Version("mollm-11-of-before", 11, "retired", 99, {"scores": scores}, ""), [])
        versions.save(store, 3, versions.Version(name, 12, "candidate", 131, facts, now()), [])
        versions.publish(store, 3, name)
    output = CliRunner().invoke(cli.app, ["versions", "3"]).output
    line = next(line for line in output.splitlines() if name in line)
    assert line.split()[:8] == [name, "published", "131", "87%", "[80,", "92]", "0.358", "0.109"]
    assert any("of-before retired   99     87%        " in line for line in output.splitlines()), "it has no interval"
    assert "They were chosen for being hard: the rest differs." in output
    assert "`mollm audit 3 --labels 300`" in output
    shown = json.loads(CliRunner().invoke(cli.app, ["versions", "3", "--json"]).stdout)
    assert shown[0]["accuracy"] == found
    assert shown[1]["accuracy"]["labelled"] == {"value": 0.871, "n": 99, "low": None, "high": None}
    output = CliRunner().invoke(cli.app, ["report", "3"]).output
    assert "right on 87.1% [80.3%, 91.8%] of the 131 labelled tasks" in output
    assert "those were chosen for being hard, the rest differs: `mollm audit 3` measures it" in output
