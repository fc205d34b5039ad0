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
from mollm_backend.work import queues
from mollm_backend.work.noting import noted


def prelabel(
    project: ProjectId,
    version: Annotated[str, typer.Option(help="The version to write; default: the published one.")] = "",
    again: Annotated[
        bool, typer.Option("--again", help="Ask the LLMs again for answers that failed; write nothing.")
    ] = False,
) -> None:
    """Write the published pre-annotation of every task into Label Studio.

    A training publishes the next batch only; this writes the layer below it, for exports and for the Data Manager. Run
    it again after a stop: it goes on where it stopped.

    Example: `mollm prelabel 12`.
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
    client, connection = LabelStudioClient.of(loaded), queues.connect(loaded.queue_url)
    columns = (TextColumn("{task.completed} of {task.total} tasks"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress, noted(connection, project, "pre-labelling") as note:
        bar = progress.add_task("", total=None, visible=False)

        def reached(done: int, total: int) -> None:
            progress.update(bar, completed=done, total=total, visible=True)
            note.reached(done, total)

        report = publish.prelabel(store, client, project, chosen, progress=reached)
    for line in report.lines:
        console.print(line)
    if report.refused:
        raise typer.Exit(1)
