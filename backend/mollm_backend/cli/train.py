"""`mollm train`: ask for a training now, with new examples in the prompts where that is wanted."""

from __future__ import annotations

from typing import Annotated

import typer

from mollm.errors import InputError
from mollm.prompts import Shot, pick_shots
from mollm_backend.cli.terminal import ProjectId, a_queue, console, open_store, say
from mollm_backend.jobs import acting
from mollm_backend.store import Store, audits, labels, projects, signals, tasks
from mollm_backend.work import queues
from mollm_backend.work.actions import COMMAND_LINE, Asked


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
    with a_queue():
        for line in acting.train(store, queues.connect(loaded.queue_url), Asked(project, "train", "", COMMAND_LINE)):
            say(line)


def _shots(store: Store, project: projects.Project, per_label: int) -> list[list[str]]:
    """The oldest human labels of each decision, `per_label` of each, as rows of text, label and the decision's key.

    These tasks then leave fitting, calibration and scoring.
    """
    annotations = audits.usable(store, project.id)
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
