"""`mollm guidelines`: a new instruction for the panel, taken only where it is shown to be better."""

from __future__ import annotations

import difflib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from mollm.errors import InputError
from mollm_backend.cli.terminal import AsJson, ProjectId, console, nudge, open_store, say
from mollm_backend.jobs import guidelines as trial
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.store import events, projects
from mollm_backend.work import queues


def guidelines(
    project: ProjectId,
    instruction: Annotated[
        str, typer.Option(help="The instruction to try; without one an LLM of the panel writes it.")
    ] = "",
    file: Annotated[Path | None, typer.Option(help="The same, from a text file.", exists=True, dir_okay=False)] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Make the last tried instruction the panel's.")] = False,
    back: Annotated[bool, typer.Option("--back", help="Take the last applied instruction back.")] = False,
    json_output: AsJson = False,
) -> None:
    """Try a new instruction on people's labels; --apply takes it where it is shown to be better, --back goes back.

    The LLMs of the panel read the labelled texts of one half under the new instruction; the other half is what a
    proposal may see. A trial that was stopped goes on where it was. With --apply the panel reads all tasks again.

    Examples: `mollm guidelines 12`, `mollm guidelines 12 --instruction "Sort the ticket by who must act."`,
    `mollm guidelines 12 --apply`, `mollm guidelines 12 --back`.
    """
    loaded, store = open_store()
    found = projects.get(store, project)
    if apply or back:
        if apply and back:
            raise InputError("Say --apply or --back, not both.")
        now = trial.apply(store, found) if apply else trial.back(store, found)
        line = f"the instruction is now: {now or 'the panel file’s own'}"
        events.add(store, "info", line, project)
        say(f"{line}. The LLMs read all tasks with it, as far as they have not.")
        nudge(loaded, project)
        return
    runtime = Runtime(loaded, store, queues.connect(loaded.queue_url))
    given = file.read_text(encoding="utf-8").strip() if file is not None else instruction.strip()
    writer = "you"
    with console.status("trying the instruction ...") as status:
        if not given:
            given, writer = trial.proposed(runtime, found)
        made = trial.tried(runtime, found, given, lambda line: status.update(f"{line} ..."))
    if json_output:
        print(json.dumps(asdict(made) | {"writer": writer, "better": made.paired.better}))
        return
    for line in _lines(made, writer, project):
        say(line)


def _lines(made: trial.Tried, writer: str, project: int) -> list[str]:
    """For people: what changes, how it did, what it costs, what to do."""
    before, after = (text.strip().replace(". ", ".\n").splitlines() for text in (made.before, made.instruction))
    diff = [line for line in difflib.ndiff(before, after) if not line.startswith("?")]
    go_on = [f"`mollm guidelines {project} --apply` takes it; `--back` goes back."] if made.paired.better else []
    return [
        f"written by {writer}, try {made.attempt}:",
        *(f"  {line}" for line in diff),
        *made.paired.lines(),
        f"the trial took {made.tokens:,} tokens; with --apply the panel reads all tasks again: about "
        f"{made.tokens_for_all:,} tokens",
        *go_on,
    ]
