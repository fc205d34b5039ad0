"""`mollm report`: labels, scores, versions and costs of one project or of all."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table

from mollm.errors import ConfigError
from mollm_backend.cli.terminal import SCORES, AsJson, console, open_store, say
from mollm_backend.jobs import standing
from mollm_backend.store import answer_errors, audits, projects, signals
from mollm_backend.web import dashboard
from mollm_backend.work import people, queues


def report(
    project: Annotated[int | None, typer.Argument(help="One project; default: all.")] = None,
    json_output: AsJson = False,
) -> None:
    """Report one project or all: labels, scores, versions, and what each annotator has cost."""
    loaded, store = open_store()
    if project is not None:
        projects.get(store, project)
    state = dashboard.status(store, queues.connect(loaded.queue_url))
    if project is not None:
        state["projects"] = [row for row in state["projects"] if row["id"] == project]
        state["costs"] = {name: asdict(cost) for name, cost in signals.costs(store, project).items()}
    for row in state["projects"]:
        try:
            found = projects.get(store, row["id"])
            row["problems"] = [
                asdict(failed) | {"line": failed.line} for failed in answer_errors.problems(store, found)
            ]
            row |= standing.of_project(store, found, loaded.batch_size)
            row["people"] = people.of_project(store, found, audits.usable(store, found.id))
        except ConfigError as error:
            row["people"] = {"lines": [str(error)]}
    if json_output:
        print(json.dumps(state))
        return
    if not state["projects"]:
        say("No project is connected yet: `mollm connect N`, with N as in .../projects/N of its page.")
    for row in state["projects"]:
        _print_project(row)
    if state["costs"]:
        _print_costs(state["costs"])


def _print_project(project: dict[str, Any]) -> None:
    """One project in lines."""
    version = project["version"] or {"id": "none yet", "scores": {}, "accuracy": {}, "notes": [], "human_labels": 0}
    console.print(f"{project['id']} {project['title']}", style="bold", highlight=False, soft_wrap=True, markup=False)
    human = f"{project['human_labels']} human labels ({version['human_labels']} learned)"
    say(f"  {project['tasks']} tasks ({project['open']} open), {human}, version {version['id']}")
    pin = f"It is {project['pinned']['line']}." if project["pinned"] else ""
    for line in (
        pin,
        *_accuracy(project["id"], version),
        *version["notes"],
        project["budget"]["line"],
        *project["people"]["lines"],
        *standing.lines(project),
        *(f"{failed['line']}; {failed['remedy']}" for failed in project.get("problems", [])),
    ):
        if line:
            say(f"  {line}")


def _accuracy(project: int, version: dict[str, Any]) -> list[str]:
    """How good the version is on what was measured, and how to know of the rest."""
    if "labelled" not in version["accuracy"]:
        return []
    right, scores = version["accuracy"]["labelled"], version["scores"]
    other = ", ".join(f"{name} {scores[key]:.3f}" for name, key in SCORES.items() if key in scores)
    return [
        f"right on {dashboard.percent(right)} of the {right['n']} labelled tasks, cross-fitted ({other} there)",
        f"those were chosen for being hard, the rest differs: `mollm audit {project}` measures it",
    ]


def _print_costs(costs: dict[str, dict[str, float]]) -> None:
    table = Table("annotator", "texts", "calls", "prompt tokens", "completion tokens", "seconds", title="Cost")
    for name, cost in costs.items():
        figures = (cost["texts"], cost["calls"], cost["prompt_tokens"], cost["completion_tokens"])
        table.add_row(name, *(str(figure) for figure in figures), f"{cost['seconds']:.0f}")
    console.print(table)
