"""`mollm panel`: which LLMs read the texts."""

from __future__ import annotations

import typer

from mollm_backend.cli import panel_list, panel_test, panel_use

app = typer.Typer(help="See, choose and try the LLMs that read the texts.", no_args_is_help=True)
app.command("list")(panel_list.list_)
app.command("use")(panel_use.use)
app.command("test")(panel_test.try_)
