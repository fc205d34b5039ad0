"""`mollm up`: start everything, and with --demo a real Label Studio with a real project."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import Annotated

import typer

from mollm_backend import settings
from mollm_backend.cli.terminal import names_in
from mollm_backend.demo import run
from mollm_backend.supervisor.lock import home_lock
from mollm_backend.supervisor.processes import Family, Stopped


def up(
    demo: Annotated[
        bool, typer.Option("--demo", help="Install and start Label Studio, with a project to try.")
    ] = False,
    tasks: Annotated[
        Path | None, typer.Option(help="Texts for the demo: CSV, JSON or JSONL with a text and maybe a label column.")
    ] = None,
    text_column: Annotated[str, typer.Option(help="The file's text column.")] = "",
    label_column: Annotated[str, typer.Option(help="The file's column of gold labels (used for scoring only).")] = "",
    labels: Annotated[str, typer.Option(help="The labels to choose from, with commas between them.")] = "",
    limit: Annotated[int, typer.Option(min=0, help="At most so many texts, the labels in turn; 0: all.")] = 0,
    panel: Annotated[
        str, typer.Option(help="A panel's name (`mollm panel list`) or TOML file, for this run alone.")
    ] = "",
    label_studio_port: Annotated[int, typer.Option(min=1, max=65535, help="First port to try.")] = 8080,
) -> None:
    """Start the queue, the web backend and a worker, and keep them running until Ctrl-C.

    With --demo also a real Label Studio, with a project of real texts, connected and pre-annotated.

    Examples: `mollm up`, `mollm up --demo --panel small`,
    `mollm up --demo --tasks FILE.csv --labels sports,politics,science`.
    """
    if not demo and (tasks or labels or limit):
        raise typer.BadParameter("--tasks, --labels and --limit belong to --demo.")
    file = run.TaskFile(tasks, text_column, label_column, names_in(labels)) if tasks else None
    loaded = settings.load()
    with home_lock(loaded.home):
        (loaded.home / settings.DEMO_FILE).unlink(missing_ok=True)  # of a killed run: its Label Studio is gone
        loaded = settings.load()
        loaded = loaded.model_copy(update={"panel": panel or loaded.panel})
        loaded.panel_config()  # a panel that cannot be used is told of before anything starts
        family = Family(loaded.home, tell)
        try:
            with family.until_stopped():
                family.end_orphans()
                if demo:
                    run.run_demo(loaded, family, tell, tasks=file, limit=limit, port=label_studio_port)
                else:
                    run.run(loaded, family, tell)
        except Stopped:
            tell("all ended" if family.settled else "all ended, before everything was started")
            raise SystemExit(0 if family.settled else 1) from None


def tell(line: str) -> None:
    """One line of what happened, at once also where the output is a file."""
    with contextlib.suppress(BrokenPipeError):  # nobody reads any more: that must not keep the end from its work
        print(f"{time.strftime('%H:%M:%S')} {line}", flush=True)
