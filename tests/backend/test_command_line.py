"""The command line's table: it says what the commands say, and `--help` imports nothing that is slow."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from mollm_backend import cli

LATER = ("sklearn", "scipy", "numpy", "sqlalchemy", "alembic", "redis", "rq", "torch", "httpx", "pydantic",
         "mollm_backend.jobs", "mollm_backend.demo")  # fmt: skip


def first_line(text: str) -> str:
    return " ".join(inspect.cleandoc(text).split("\n\n")[0].split())


@pytest.mark.parametrize("name", list(cli.COMMANDS))
def test_the_table_says_what_the_command_says(name: str) -> None:
    command = cli.load(name)
    assert command.name == name
    assert first_line(command.help or "") == cli.COMMANDS[name][1]
    done = CliRunner().invoke(cli.app, [name, "--help"])
    assert done.exit_code == 0
    assert "completion" not in done.output


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
    assert [name for name in ("mollm_backend.jobs", "sklearn", "torch", "mollm.loop") if name in modules] == []


def test_an_unknown_command_is_wrong_usage() -> None:
    assert CliRunner().invoke(cli.app, ["nosuch"]).exit_code == 2
    assert CliRunner().invoke(cli.app, []).exit_code == 2
    assert isinstance(cli.load("replay"), typer.main.TyperGroup)
