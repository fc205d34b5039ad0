"""The command line: one file a group of commands. Exit codes: 0 done, 1 could not, 2 wrong usage."""

from __future__ import annotations

import sys

import typer

from mollm.errors import MollmError
from mollm_backend.cli import bench, demo, loop, options, prepare, project, record, replay, results, up

app = typer.Typer(
    name="mollm",
    help="A mixture of small local LLMs that labels a Label Studio project and learns from its people.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
app.command("up")(up.up)
app.command("prepare")(prepare.prepare)
app.command("connect")(project.connect)
app.command("disconnect")(project.disconnect)
app.command("doctor")(project.doctor)
app.command("options")(options.options)
app.command("prelabel")(loop.prelabel)
app.command("demo-score")(demo.demo_score)
app.command("train")(loop.train)
app.command("next-batch")(loop.next_batch)
app.command("versions")(loop.list_versions)
app.command("rollback")(loop.rollback)
app.command("explain")(results.explain)
app.command("report")(results.report)
app.command("export")(results.export)
app.command("record")(record.record)
app.add_typer(replay.app, name="replay")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Run the command line; an error of ours is one line on stderr, never a traceback."""
    try:
        app()
    except MollmError as error:
        sys.stderr.write(f"mollm: {error}\n")
        sys.exit(1)
