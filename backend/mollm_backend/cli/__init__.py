"""The command line: one file a command, named as it is typed. Exit codes: 0 done, 1 could not, 2 wrong usage.

A command's file, and the libraries that it needs, are imported when it is called: `mollm --help` reads this table.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from importlib.metadata import version as version_of
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from mollm.errors import MollmError
from mollm_backend import disk, logs

# Command: the first line of its help (a test compares them). Its file and its function here have its name.
COMMANDS = {
    "up": "Start the queue, the web backend and a worker, and keep them running until Ctrl-C.",
    "web": "Serve the web backend alone until SIGTERM or Ctrl-C, as `mollm up` does; the workers run elsewhere.",
    "worker": "Run a worker until SIGTERM or Ctrl-C; any number of them share the work, on any hosts.",
    "migrate": "Bring the store to the tables of this release, and say from which revision to which.",
    "backup": "Write the store and the files of its versions into one file, as of one moment, while everything runs.",
    "restore": "Put a backup in place of the store, into SQLite or PostgreSQL, whichever it came from; its hashes are "
               "checked.",
    "prepare": "Install Label Studio in its own environment and fetch the models, where they are not there yet.",
    "panel": "See, choose and try the LLMs that read the texts.",
    "demo-score": "Print the accuracy of each LLM, of the mixture, and of the mixture after 20 and 100 simulated "
                  "human labels.",
    "connect": "Connect a project: backend, webhook, sampling, tabs; its annotations become the first training set.",
    "disconnect": "Take backend, webhook and our tabs away, put back what connect found; labels and predictions stay.",
    "status": "Show on one screen what runs, how far it is, what waits for people, and what to do next.",
    "doctor": "Find what hinders the work: Label Studio, network, webhook, stream, worker, LLMs; a line each, with "
              "its fix.",
    "report": "Report one project or all: labels, scores, versions, and what each annotator has cost.",
    "alerts": "Show where alerts are sent and which are open; with --test, send one and say whether it arrived.",
    "options": "Show or set a project's instruction, daily budget, blind share and what its labels weigh.",
    "guidelines": "Try a new instruction on people's labels; --apply takes it where it is shown to be better, --back "
                  "goes back.",
    "train": "Learn from people's labels now, without waiting for enough new ones.",
    "next-batch": "Show the tasks that people see next, in order, each with its reason.",
    "explain": "Say what each LLM, the mixture and the classifier think of a task, and why it is (not) shown next.",
    "recheck": "List the human labels that most speaks against, and show their tasks to people again in a tab.",
    "versions": "List a project's versions, newest first; the published one is marked.",
    "rollback": "Publish an earlier version again and pin the project to it: its pre-annotations and its batch come "
                "back.",
    "unpin": "Let new versions be published again after a rollback; the newest that was held back is published now.",
    "audit": "Draw tasks that people label without a pre-annotation: they tell how right the rest is.",
    "accept": "Accept without a look the labels that an audit certifies; --undo takes exactly these back.",
    "finish": "Say what it takes until all tasks are right enough: batches, audits, or labelling the rest; labels and "
              "hours.",
    "plan": "Say what labelling so many tasks takes: hours, tokens, money, storage; the panel, an endpoint, or people "
            "alone.",
    "prelabel": "Write the published pre-annotation of every task into Label Studio.",
    "export": "Write every task's best label: the human's where there is one, else the mixture's.",
    "record": "Ask every LLM of the panel for every text, and keep the answers as a recording for `mollm replay`.",
    "replay": "Run experiments on a recording or on labelled texts, without any LLM.",
    "bench": "Measure speed on this machine.",
}  # fmt: skip


# How `mollm --help` groups them: the heading before the first of its commands.
PANELS = {
    "up": "Start",
    "connect": "Connect and watch",
    "train": "The loop with people",
    "audit": "How right it is, and out",
    "record": "Experiments",
}


def load(name: str) -> Any:
    """The command itself, with its file imported. A file with an `app` is a group of commands."""
    file = name.replace("-", "_")
    module = importlib.import_module(f"{__name__}.{file}")
    if hasattr(module, "app"):
        group = typer.main.get_group(module.app)
        group.name = name
        return group
    single = typer.Typer(add_completion=False, rich_markup_mode="markdown")
    single.command(name)(getattr(module, file))
    return typer.main.get_command(single)


class _Commands(TyperGroup):
    """Lists commands from the table, and imports the one that is called."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ARG002 (the base class gives it)
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        return TyperCommand(cmd_name, help=COMMANDS[cmd_name], rich_help_panel=_panel(cmd_name))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            close = difflib.get_close_matches(args[0], COMMANDS)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {' or '.join(close)}?" if close else ""))
        name, _, rest = super().resolve_command(ctx, args)
        return name, load(str(name)), rest


def _panel(name: str) -> str:
    """The last heading at or before this command."""
    names = list(COMMANDS)
    return next(PANELS[one] for one in reversed(names[: names.index(name) + 1]) if one in PANELS)


def _version(asked: bool) -> None:
    if asked:
        print(f"mollm {version_of('mollm')}")
        raise typer.Exit


app = typer.Typer(name="mollm", pretty_exceptions_enable=False, add_completion=False, rich_markup_mode="markdown")


@app.callback(cls=_Commands, no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})
def mollm(
    _asked: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """A mixture of small local LLMs that labels a Label Studio project and learns from its people."""
    logs.beside_output()


def main() -> None:
    """Run the command line; an error of ours is one line on stderr, never a traceback."""
    try:
        app()
    except MollmError as error:
        sys.stderr.write(f"mollm: {error}\n")
        sys.exit(1)
    except OSError as error:
        if not (words := disk.told(error)):
            raise
        sys.stderr.write(f"mollm: {words}\n")
        sys.exit(1)
