"""`mollm bench`: speed, as ratios measured in one run."""

from __future__ import annotations

import typer

app = typer.Typer(help="Measure speed on this machine.", no_args_is_help=True)
