"""`mollm train`: ask for a training now, with new examples in the prompts where that is wanted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import typer

from mollm.annotators import EXAMPLES, examples
from mollm.config import AnnotatorConfig
from mollm.errors import InputError
from mollm.prompts import Shot, pick_shots
from mollm_backend.cli import waiting
from mollm_backend.cli.terminal import ProjectId, a_queue, open_store, say
from mollm_backend.jobs import acting
from mollm_backend.store import Store, audits, labels, projects, signals, tasks, versions
from mollm_backend.store.decisions import Decision
from mollm_backend.store.versions import Version
from mollm_backend.work import asked, queues
from mollm_backend.work.actions import COMMAND_LINE, Asked


def train(
    project: ProjectId,
    refresh_prompts: Annotated[
        bool, typer.Option("--refresh-prompts", help="Put examples from human labels into the prompts first.")
    ] = False,
    per_label: Annotated[int, typer.Option(min=1, help="Examples a label, with --refresh-prompts.")] = 1,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before the panel reads everything again.")
    ] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until it is trained, and show how far it is.")] = False,
) -> None:
    """Learn from people's labels now, without waiting for enough new ones.

    The worker of `mollm up` does it. A new prompt asks the panel again: --refresh-prompts shows what that costs before
    it does anything.

    Examples: `mollm train 12 --wait`, `mollm train 12 --refresh-prompts`.
    """
    loaded, store = open_store()
    found = projects.get(store, project)
    connection = queues.connect(loaded.queue_url)
    if refresh_prompts:
        annotators = loaded.panel_config().annotators
        _check(annotators, per_label)
        picked = _shots(store, found, per_label)
        rows = [_row(decision, shot) for decision, shots in picked for shot in shots]
        say(_cost_line(store, found, len(rows)))
        if names := _shortened(annotators, picked):
            say(f"Their texts are shortened for {', '.join(names)}: they may take {EXAMPLES:.0%} of `max_tokens`.")
        if not yes and not typer.confirm("Ask the panel again?"):
            raise typer.Exit(1)
        projects.change(store, project, options=found.options | {"shots": rows})
    before = versions.newest(store, project)
    with a_queue():
        wish = Asked(project, "train", "", COMMAND_LINE)
        for line in acting.train(store, connection, wish, anyway=refresh_prompts):
            say(line)
    if not wait:
        say(f"`mollm status {project}` says how far it is.")
        return
    waiting.wait(
        store, connection, project, over=lambda: not queues.training_requested(connection, project),
        why=lambda: asked.waits_for(store, connection, projects.get(store, project)),
    )  # fmt: skip
    _say_what_came(store, project, before)


def _say_what_came(store: Store, project: int, before: Version | None) -> None:
    """The line of the new version; Exit(1) where there is none."""
    newest = versions.newest(store, project)
    if newest is not None and (before is None or newest.id != before.id):
        say(f"{newest.id} from {newest.human_labels} labels of people: {newest.facts.get('gate', newest.status)}.")
        say(f"`mollm versions {project}` lists it.")
        return
    say(asked.nothing_to_learn(store, projects.get(store, project)) or "No version came of it.")
    raise typer.Exit(1)


def _check(annotators: Sequence[AnnotatorConfig], per_label: int) -> None:
    """Raise InputError where no annotator would read so many examples."""
    most = max(config.shots for config in annotators)
    if per_label > most:
        lower = ", or lower --per-label" if most else ""
        raise InputError(
            f"The panel's annotators read at most {most} of each label as examples: raise `shots` in a panel file of "
            f"your own (docs/operations.md, The panel){lower}."
        )


Picked = list[tuple[Decision, tuple[Shot, ...]]]


def _shots(store: Store, project: projects.Project, per_label: int) -> Picked:
    """The oldest human labels of each decision, `per_label` of each.

    These tasks then leave fitting, calibration and scoring.
    """
    annotations = audits.usable(store, project.id)
    texts = {task.task_id: task.text or "" for task in tasks.every(store, project.id)}
    picked: Picked = []
    for decision in project.decisions:
        if decision.of_a_list:
            continue  # its prompt takes no examples
        human = labels.human_labels(annotations, decision.key)
        known = [Shot(texts.get(int(row.item), ""), row.label) for row in human]
        picked.append((decision, pick_shots((shot for shot in known if shot.text), decision.labels, per_label)))
    if not any(shots for _, shots in picked):
        raise InputError(
            f"Project {project.id} has no human labels that can be examples in prompts: label some tasks first (the "
            "prompt about a list of several labels takes none)."
        )
    return picked


def _row(decision: Decision, shot: Shot) -> list[str]:
    """An example as the project keeps it: text, label and, where there are several decisions, the decision's key."""
    return [shot.text, shot.label, *([decision.key] if decision.key else [])]


def _shortened(annotators: Sequence[AnnotatorConfig], picked: Picked) -> list[str]:
    """The names of the annotators that get only the beginnings of some examples."""
    return [
        config.name
        for config in annotators
        if any(set(examples(config, decision.labels, shots)) - set(shots) for decision, shots in picked)
    ]


def _cost_line(store: Store, project: projects.Project, shots: int) -> str:
    total, unreadable = tasks.count(store, project.id)
    costs = signals.costs(store, project.id).values()
    texts = sum(cost.texts for cost in costs) or 1
    tokens = sum(cost.prompt_tokens for cost in costs) / texts
    hours = sum(cost.seconds for cost in costs) / texts * (total - unreadable) * len(project.panel) / 3600
    return (
        f"New examples ({shots}) change every prompt: {len(project.panel)} annotators read {total - unreadable} tasks "
        f"again, about {tokens * (total - unreadable) * len(project.panel):,.0f} tokens and {hours:.1f} hours by what "
        "the last reading took. The tasks used as examples are no longer fitted or scored."
    )
