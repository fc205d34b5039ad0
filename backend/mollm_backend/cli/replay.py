"""`mollm replay`: what the mixture and the loop would have done on a recording."""

from __future__ import annotations

import typer

app = typer.Typer(help="Run experiments on a recording, without any LLM.", no_args_is_help=True)
