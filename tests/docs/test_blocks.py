"""What README.md, CONTRIBUTING.md and docs/ show can be typed: python runs, commands, targets and settings exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest

from mollm.config import PanelConfig
from mollm_backend.settings import Settings
from tests.docs import command_line
from tests.docs.pages import MAKEFILE, PAGES, PROJECT, ROOT, Block, blocks, of, prose

CHECKED = ("python", "bash", "toml", "ini")
NOT_RUN = ("text",)  # diagrams and formulas
# Other programs than mollm, make, pip and python.
PROGRAMS = (".", "mkdir", "docker", "pre-commit", "apt-get", "docker/debian-base.sh", "docker/secrets.sh")
PLUGIN_GROUPS = {"mollm.strategies", "mollm.aggregators", "mollm.runtimes"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_of_a_kind_that_is_checked(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= {*CHECKED, *NOT_RUN}
    indented = re.findall(r"\n\n    (?! )[^\n]+", prose(page))
    assert not [line for line in indented if not line.strip().startswith(("The key", "the line", "`mollm"))], indented


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_python_runs(page: Path) -> None:
    """In one namespace a page, from the first block to the last."""
    ran: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.language == "python" and not block.file:
            exec(compile("\n" * (block.line - 1) + block.code, str(page), "exec"), ran)


@pytest.mark.parametrize("block", of("bash"), ids=str)
def test_shell_lines_can_be_typed(block: Block) -> None:
    for line in block.code.splitlines():
        check_line(line, block)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_in_the_prose_can_be_typed(page: Path) -> None:
    text = prose(page)
    if page.name == "command-line.md":  # made from the commands themselves
        return
    for found in re.findall(r"`((?:mollm|make) [a-z][^`\n]*)`", text):
        check_line(found.replace("...", "").replace("[", "").replace("]", ""), None)


def check_line(line: str, block: Block | None) -> None:
    words = shlex.split(line, comments=True)
    if not words:
        return
    program, rest = words[0], words[1:]
    if program == "mollm":
        check_mollm(rest)
    elif program == "make":
        for word in rest:
            name, given, _ = word.partition("=")
            found = re.search(rf"\b{name}\b" if given else rf"^{name}:", MAKEFILE, re.MULTILINE)
            assert found, f"{line!r}: the Makefile has no {name!r}"
    elif program == "pip":
        extras = ",".join(re.findall(r"\[([\w,-]+)\]", line))
        assert set(filter(None, extras.split(","))) <= set(PROJECT["optional-dependencies"]), line
    elif program.endswith("python"):
        paths = [word for word in rest if word.startswith("tests/")]
        assert rest[:2] == ["-m", "pytest"]
        assert all((ROOT / path).exists() for path in paths), line
    else:
        assert program in PROGRAMS, f"{block}: {program!r} is no program that these pages use"
        assert all((ROOT / word).is_file() for word in rest if word.endswith(".yaml")), line


def check_mollm(words: list[str]) -> None:
    """The command exists and knows every option; values may be placeholders."""
    command, rest = command_line.find(words)
    known = {name for param in command.params for name in (*param.opts, *param.secondary_opts) if name.startswith("-")}
    given = {word.partition("=")[0] for word in rest if word.startswith("--")}
    assert given <= known | {"--help", "--version", "--json"}, f"mollm {' '.join(words)}: no {given - known}"
    if "--json" in given:
        assert "--json" in known
    if not hasattr(command, "commands") and "--help" not in given:
        command.make_parser(command_line.context(command, "mollm")).parse_args(args=list(rest))


@pytest.mark.parametrize("block", of("toml"), ids=str)
def test_toml_is_a_panel_or_names_known_plugins(block: Block) -> None:
    read = tomllib.loads(block.code)
    if "project" in read:
        assert set(read["project"]["entry-points"]) <= PLUGIN_GROUPS
    else:
        assert PanelConfig.model_validate(read).annotators


def setting_names() -> set[str]:
    return {
        field.validation_alias if isinstance(field.validation_alias, str) else f"MOLLM_{name.upper()}"
        for name, field in Settings.model_fields.items()
    }


@pytest.mark.parametrize("block", of("ini"), ids=str)
def test_every_line_of_a_settings_file_is_a_setting(block: Block) -> None:
    for line in block.code.splitlines():
        assert line.partition("=")[0] in setting_names()


def test_every_setting_is_described() -> None:
    table = prose(ROOT / "docs" / "operations.md").partition("## Settings")[2].partition("\n## ")[0]
    first_cells = "".join(row.split("|")[1] for row in table.splitlines() if row.startswith("|"))
    assert set(re.findall(r"`([A-Z_]+)`", first_cells)) == setting_names()
