"""`mollm panel use`: choose the panel of this home."""

from __future__ import annotations

import os
from typing import Annotated

import typer

from mollm_backend import panels, settings
from mollm_backend.cli.terminal import say

VARIABLE = "MOLLM_PANEL"


def use(
    name: Annotated[str, typer.Argument(metavar="PANEL", help="A panel's name, or the path of a TOML file.")],
) -> None:
    """Choose the panel of this home: it is written into its `mollm.env`.

    The new LLMs read all texts; what the old ones said is kept, and comes back with them.
    """
    loaded = settings.load()
    if name not in panels.files(loaded.home):
        name = os.path.abspath(os.path.expanduser(name)) if name.endswith(".toml") else name  # noqa: PTH100, PTH111
    members = panels.load(name, loaded.home).annotators
    file = settings.keep(loaded.home, VARIABLE, name)
    names = ", ".join(member.name for member in members)
    say(f"{file} says {VARIABLE}={name}: {names} read from the next `mollm up` on.")
    if os.environ.get(VARIABLE, name) != name:
        say(f"But {VARIABLE} is set to {os.environ[VARIABLE]} here, which outranks the file: unset it.")
