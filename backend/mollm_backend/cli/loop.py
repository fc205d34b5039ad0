"""`mollm train`, `next-batch`, `versions`, `rollback`: steer the loop of a connected project."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import redis
import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from mollm.errors import InputError
from mollm.prompts import Shot, pick_shots
from mollm_backend import settings
from mollm_backend.store import Store, batches, events, labels, projects, signals, tasks, versions
from mollm_backend.work import queues

console = Console()
ProjectId = Annotated[int, typer.Argument(help="The project's number in Label Studio.")]
SCORES = {"accuracy": "accuracy", "log-loss": "log_loss", "ECE": "ece"}  # heading: name in a version's facts
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


def open_store() -> tuple[settings.Settings, Store]:
    loaded = settings.load()
    return loaded, Store(loaded.store_url)


def nudge(loaded: settings.Settings, project: int) -> None:
    """Let the worker look at once; without a queue it does with the next `mollm up`."""
    try:
        queues.nudge(queues.connect(loaded.queue_url), project)
    except redis.RedisError:
        console.print("No worker is running: `mollm up` starts it.")


@contextmanager
def _a_queue() -> Iterator[None]:
    """Say what to do where nobody is there to take the job. Raises InputError."""
    try:
        yield
    except redis.RedisError:
        raise InputError("No worker is running that could do it: start `mollm up` and say it again.") from None


def train(
    project: ProjectId,
    refresh_prompts: Annotated[
        bool, typer.Option("--refresh-prompts", help="Put examples from human labels into the prompts first.")
    ] = False,
    per_label: Annotated[int, typer.Option(min=1, help="Examples a label, with --refresh-prompts.")] = 1,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before the panel reads everything again.")] = False,
) -> None:
    """Ask for a refit now, without waiting for enough new labels. The worker of `mollm up` does it.

    A new prompt asks the panel again: --refresh-prompts shows what that costs before it does anything.
    """
    loaded, store = open_store()
    found = projects.get(store, project)
    if refresh_prompts:
        shots = _shots(store, found, per_label)
        console.print(_cost_line(store, found, len(shots)))
        if not yes and not typer.confirm("Ask the panel again?"):
            raise typer.Exit(1)
        options = found.options | {"shots": shots}
        projects.change(store, project, options=options)
    with _a_queue():
        queues.request_training(queues.connect(loaded.queue_url), project)
    console.print(
        "Asked for a training: it starts after the labels are reconciled (see the status page).", soft_wrap=True
    )


def _shots(store: Store, project: projects.Project, per_label: int) -> list[list[str]]:
    """The oldest human labels of each decision, `per_label` of each, as rows of text, label and the decision's key.

    These tasks then leave fitting, calibration and scoring.
    """
    annotations = labels.every(store, project.id)
    texts = {task.task_id: task.text or "" for task in tasks.every(store, project.id)}
    rows = []
    for decision in project.decisions:
        human = labels.human_labels(annotations, decision.key)
        known = [Shot(texts.get(int(row.item), ""), row.label) for row in human]
        shots = pick_shots((shot for shot in known if shot.text), decision.labels, per_label)
        rows += [[shot.text, shot.label, *([decision.key] if decision.key else [])] for shot in shots]
    if not rows:
        raise InputError(f"Project {project.id} has no human labels yet, so there are no examples for the prompts.")
    return rows


def _cost_line(store: Store, project: projects.Project, shots: int) -> str:
    total, unreadable = tasks.count(store, project.id)
    costs = signals.costs(store, project.id).values()
    texts = sum(cost.texts for cost in costs) or 1
    tokens = sum(cost.prompt_tokens for cost in costs) / texts
    hours = sum(cost.seconds for cost in costs) / texts * (total - unreadable) * len(project.panel) / 3600
    return (
        f"{shots} examples change every prompt: {len(project.panel)} annotators read {total - unreadable} tasks again, "
        f"about {tokens * (total - unreadable) * len(project.panel):,.0f} tokens and {hours:.1f} hours by what the "
        "last reading took. The tasks used as examples are no longer fitted or scored."
    )


def prelabel(
    project: ProjectId,
    version: Annotated[str, typer.Option(help="The version to write; default: the published one.")] = "",
) -> None:
    """Write the published pre-annotation of every task into Label Studio. Resumable: run it again after a stop.

    A refit publishes the next batch only; this writes the layer below it, for exports and for the Data Manager.
    """
    from mollm_backend.labelstudio.client import LabelStudioClient
    from mollm_backend.labelstudio.publish import prelabel as write

    loaded, store = open_store()
    chosen = version or projects.get(store, project).published_version
    if not chosen:
        raise InputError(
            f"Project {project} has no published version yet: `mollm doctor {project}` says what it waits for."
        )
    if versions.find(store, project, chosen) is None:
        raise InputError(f"Project {project} has no version {chosen!r}: see `mollm versions {project}`.")
    client = LabelStudioClient(loaded.label_studio_url, loaded.label_studio_api_key.get_secret_value())
    columns = (TextColumn("{task.completed} of {task.total} tasks"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task("", total=None, visible=False)
        report = write(
            store, client, project, chosen,
            progress=lambda done, total: progress.update(bar, completed=done, total=total, visible=True),
        )  # fmt: skip
    for line in report.lines:
        console.print(line)
    if report.refused:
        raise typer.Exit(1)


def next_batch(project: ProjectId, json_output: AsJson = False) -> None:
    """Show the tasks that people see next, in order, each with its reason."""
    _loaded, store = open_store()
    found = projects.get(store, project)
    closed = labels.closed_tasks(labels.every(store, project))
    rows = [row for row in batches.entries(store, project, found.batch_version or "") if row.task_id not in closed]
    if json_output:
        print(json.dumps([{name: getattr(row, name) for name in row.__slots__} for row in rows]))
        return
    if not rows:
        why = "everything in it is labelled" if found.batch_version else "no version is published yet"
        console.print(f"No batch is open: {why}. `mollm doctor {project}` says what it waits for.", soft_wrap=True)
        return
    table = Table("task", "pre-annotation", "confidence", "why", title=found.batch_version)
    for row in rows:
        table.add_row(str(row.task_id), row.label, f"{row.confidence:.2f}", row.reason)
    console.print(table)


def list_versions(project: ProjectId, json_output: AsJson = False) -> None:
    """List a project's versions, newest first; the published one is marked."""
    _loaded, store = open_store()
    projects.get(store, project)
    rows = versions.every(store, project)
    if json_output:
        shown = [{"id": row.id, "status": row.status, "human_labels": row.human_labels, "created_at": row.created_at,
                  "scores": row.facts.get("scores", {})} for row in rows]  # fmt: skip
        print(json.dumps(shown))
        return
    if not rows:
        console.print(f"No version yet: `mollm doctor {project}` says what it waits for.")
        return
    whole = (Column(name, no_wrap=True) for name in ("version", "status", "labels", *SCORES, "created (UTC)"))
    table = Table(*whole, box=None, padding=(0, 2, 0, 0))  # fits 80 columns: what cannot be read cannot be copied
    for row in rows:
        scores = row.facts.get("scores", {})
        cells = [f"{scores[key]:.3f}" if key in scores else "" for key in SCORES.values()]
        table.add_row(row.id, row.status, str(row.human_labels), *cells, row.created_at[5:16].replace("T", " "))
    console.print(table)
    console.print("Scores: cross-fitted on the human labels.")
    console.print(f"Back to one of them: `mollm rollback {project} VERSION`.")


def rollback(
    project: ProjectId, version: Annotated[str, typer.Argument(help="A version that `mollm versions` lists.")]
) -> None:
    """Publish an earlier version again: its pre-annotations and its batch come back in Label Studio."""
    loaded, store = open_store()
    projects.get(store, project)
    if versions.find(store, project, version) is None:
        raise InputError(f"Project {project} has no version {version!r}: see `mollm versions {project}`.")
    batch = batches.newest(store, project, version)
    if batch is None:
        raise InputError(f"{version} was never published, so there is no batch to go back to.")
    with _a_queue():
        queues.connect(loaded.queue_url).ping()
    versions.publish(store, project, version)
    batches.mark_unpublished(store, project, batch)  # what Label Studio still holds of it, publishing asks there
    projects.change(store, project, batch_version=batch)
    events.add(store, "done", f"rolled back to {version}", project)
    queues.enqueue(queues.connect(loaded.queue_url), "publish", "publish", project)
    console.print(f"Rolled back to {version}; Label Studio follows in seconds.")
