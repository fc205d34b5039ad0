"""`mollm panel list`: the panels that are known by name."""

from __future__ import annotations

import json

from rich.table import Table

from mollm_backend import panels, settings
from mollm_backend.cli.terminal import AsJson, console, say


def list_(json_output: AsJson = False) -> None:
    """List the panels that are known by name, and which one is in use.

    A TOML file in `panels` of the home is one more.
    """
    loaded = settings.load()
    used = loaded.panel or panels.DEFAULT
    found = {name: panels.load(name, loaded.home) for name in panels.files(loaded.home)}
    if json_output:
        rows = [
            {"name": name, "about": one.about, "used": name == used, "models": [row.model for row in one.annotators]}
            for name, one in found.items()
        ]
        print(json.dumps({"used": used, "panels": rows}))
        return
    table = Table("", "panel", "what it is", "models")
    for name, one in found.items():
        models = "\n".join(f"{row.model} ({row.runtime})" for row in one.annotators)
        table.add_row("*" if name == used else "", name, one.about, models)
    console.print(table)
    say(f"* is in use{'' if used in found else f': {used}'}. `mollm panel use NAME` chooses another one.")
