"""The page `docs/command-line.md`, made from the commands' own help: `python -m tests.docs.command_line FILE`."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from mollm_backend.cli import app

HEAD = """# The command line

<!-- Made by `make docs` from the commands' own help: change the help, not this file. -->

Exit codes: 0 (done), 1 (could not: one line says why and what to do), 2 (wrong usage). `mollm --version` prints the
version. Every command has `--help`.
"""


def main() -> Any:
    """`mollm` itself, as a group of commands."""
    return typer.main.get_command(app)


def find(words: list[str]) -> tuple[Any, list[str]]:
    """The command that `words` (without `mollm`) call, and the words that are left for it.

    Raises the command line's own error where there is no such command.
    """
    command = main()
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        _, command, words = command.resolve_command(context(command, "mollm"), words)
    return command, words


def page() -> str:
    """The whole page, in the order in which `mollm --help` lists the commands."""
    parts, heading, group = [HEAD], "", main()
    for name in group.list_commands(context(group, "mollm")):
        panel = getattr(group.get_command(context(group, "mollm"), name), "rich_help_panel", None) or "Commands"
        if panel != heading:
            heading = panel
            parts.append(f"## {heading}\n")
        command, _ = find([name])
        parts.extend(_section(f"mollm {name}", command, 3))
    return "\n".join(parts)


def _section(called: str, command: Any, depth: int) -> Iterator[str]:
    yield f"{'#' * depth} {called}\n"
    yield "\n\n".join(" ".join(part.split()) for part in (command.help or "").split("\n\n")) + "\n"
    if hasattr(command, "commands"):
        for name, inner in command.commands.items():
            yield from _section(f"{called} {name}", inner, depth + 1)
        return
    ctx = context(command, called)
    yield f"```text\n{called} {' '.join(command.collect_usage_pieces(ctx))}\n```\n"
    rows = [record for param in command.get_params(ctx) if (record := param.get_help_record(ctx))]
    rows = [(first, help_text) for first, help_text in rows if not first.startswith("--help")]
    if rows:
        yield "| argument or option | meaning |\n|---|---|"
        yield "\n".join(f"| `{_cell(first)}` | {_cell(help_text)} |" for first, help_text in rows) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "/")


def context(command: Any, called: str) -> Any:
    """What a command's parser and its help are made for."""
    return command.context_class(command, info_name=called)


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(page(), encoding="utf-8")
