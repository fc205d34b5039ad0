"""`mollm report`: labels, scores, versions and costs of one project or of all; or one project's page as a file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import redis
import typer
from rich.table import Table

from mollm.errors import ConfigError, InputError
from mollm_backend.cli.terminal import SCORES, AsJson, console, open_store, say
from mollm_backend.jobs import standing
from mollm_backend.settings import Settings
from mollm_backend.store import Store, answer_errors, audits, now, projects
from mollm_backend.store.projects import Project
from mollm_backend.view import project as view
from mollm_backend.view import render
from mollm_backend.view.quality import percent
from mollm_backend.work import people, planning, progress, queues


def report(
    project: Annotated[int | None, typer.Argument(help="One project; default: all.")] = None,
    json_output: AsJson = False,
    html: Annotated[
        Path | None,
        typer.Option(
            "--html", help="Write the project's page into this file, which needs nothing else.", dir_okay=False
        ),
    ] = None,
) -> None:
    """Report one project or all: labels, scores, versions, and what each annotator has cost."""
    loaded, store = open_store()
    if html is not None and (project is None or json_output):
        raise InputError("One file holds one project: `mollm report PROJECT --html FILE`, without --json.")
    connection = queues.connect(loaded.queue_url)
    chosen = projects.every(store) if project is None else [projects.get(store, project)]
    shown = [_state(store, connection, loaded, found) for found in chosen]
    if html is not None:
        _write(html, render.report(shown[0]))
        say(f"{html} is the page of project {project} as one file.")
        return
    state = view.shared(store, connection, project) | {"projects": shown}
    if json_output:
        print(json.dumps(state))
        return
    if not shown:
        say("No project is connected yet: `mollm connect N`, with N as in .../projects/N of its page.")
    for row in shown:
        _print_project(row)
    if state["costs"]:
        _print_costs(state["costs"])


def _state(store: Store, connection: redis.Redis, loaded: Settings, project: Project) -> dict[str, Any]:
    """The state of a project with what holds at this moment in place of what a job noted."""
    found_now = standing.of_project(store, project, loaded.batch_size)
    counted = progress.count(store, project)
    found = view.state(store, connection, project, standing=found_now, reading=counted) | {"noted_at": now()}
    try:
        found["people"] = people.of_project(store, project, audits.usable(store, project.id))
    except ConfigError as error:
        found["people"] = {"lines": [str(error)]}
    failed = [asdict(row) | {"line": row.line} for row in answer_errors.problems(store, project)]
    plan = planning.compare(store, project)
    return found | {"trust": standing.lines(found_now), "problems": failed, "plan": plan}


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}. Choose another file.") from None


def _print_project(project: dict[str, Any]) -> None:
    """One project in lines."""
    version = project["version"] or {"id": "none yet", "scores": {}, "accuracy": {}, "notes": [], "human_labels": 0}
    console.print(f"{project['id']} {project['title']}", style="bold", highlight=False, soft_wrap=True, markup=False)
    human = f"{project['human_labels']} human labels ({version['human_labels']} learned)"
    say(f"  {project['tasks']} tasks ({project['open']} open), {human}, version {version['id']}")
    pin = f"It is {project['pinned']['line']}." if project["pinned"] else ""
    summary = project["summary"]
    for line in (
        f"{summary['state']}; waits: {summary['waits']}",
        f"warning: {summary['warning']}" if summary["warning"] else "",
        pin,
        *_accuracy(project["id"], version),
        *version["notes"],
        project["budget"]["line"],
        *project["people"]["lines"],
        *project["trust"],
        *project["plan"].get("lines", []),
        *(f"{failed['line']}; {failed['remedy']}" for failed in project["problems"]),
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
        f"right on {percent(right)} of the {right['n']} labelled tasks, cross-fitted ({other} there)",
        f"those were chosen for being hard, the rest differs: `mollm audit {project}` measures it",
    ]


def _print_costs(costs: dict[str, dict[str, float]]) -> None:
    table = Table(
        "annotator", "texts", "read in part", "calls", "prompt tokens", "completion tokens", "seconds", title="Cost"
    )
    for name, cost in costs.items():
        figures = (cost["texts"], cost["truncated"], cost["calls"], cost["prompt_tokens"], cost["completion_tokens"])
        table.add_row(name, *(str(figure) for figure in figures), f"{cost['seconds']:.0f}")
    console.print(table)
