"""`mollm prelabel`: write every task's pre-annotation into Label Studio."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from mollm.errors import InputError
from mollm_backend.cli.terminal import ProjectId, console, open_store, say
from mollm_backend.labelstudio import publish
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.store import answer_errors, projects, versions


def prelabel(
    project: ProjectId,
    version: Annotated[str, typer.Option(help="The version to write; default: the published one.")] = "",
    again: Annotated[
        bool, typer.Option("--again", help="Ask the LLMs again for answers that failed; write nothing.")
    ] = False,
) -> None:
    """Write the published pre-annotation of every task into Label Studio. Resumable: run it again after a stop.

    A refit publishes the next batch only; this writes the layer below it, for exports and for the Data Manager.
    """
    loaded, store = open_store()
    if again:
        panel = projects.get(store, project).panel
        counts = {member.name: 0 for member in panel}
        for member in panel:
            counts[member.name] += answer_errors.ask_again(store, member.fingerprint)
        say("; ".join(f"{name}: {count} texts are asked again" for name, count in counts.items()))
        return
    chosen = version or projects.get(store, project).published_version
    if not chosen:
        why = f"`mollm doctor {project}` says what it waits for."
        raise InputError(f"Project {project} has no published version yet: {why}")
    versions.require(store, project, chosen)
    client = LabelStudioClient.of(loaded)
    columns = (TextColumn("{task.completed} of {task.total} tasks"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=None, visible=False)
        report = publish.prelabel(
            store, client, project, chosen,
            progress=lambda done, total: progress.update(bar, completed=done, total=total, visible=True),
        )  # fmt: skip
    for line in report.lines:
        console.print(line)
    if report.refused:
        raise typer.Exit(1)
