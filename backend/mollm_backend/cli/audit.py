"""`mollm audit`: people label some tasks blind, so that it is known how right the rest is."""

from __future__ import annotations

import json
from typing import Annotated, Any

import numpy as np
import redis
import typer

from mollm.errors import InputError
from mollm_backend.cli.terminal import AsJson, ProjectId, console, nudge, open_store, say
from mollm_backend.jobs import acting, audit_outlook, audit_report, auditing
from mollm_backend.jobs.audit_outlook import Wanted
from mollm_backend.labelstudio.label_config import read
from mollm_backend.store import Store, audits, projects
from mollm_backend.store.projects import Project
from mollm_backend.work import queues
from mollm_backend.work.actions import COMMAND_LINE, Asked
from mollm_backend.work.noting import noted


def audit(
    project: ProjectId,
    labels: Annotated[
        int | None, typer.Option(min=1, help="How many tasks people label blind.", show_default="300")
    ] = None,
    target: Annotated[
        float | None, typer.Option(help="The share of accepted tasks that must be right; without: an estimate alone.")
    ] = None,
    confidence: Annotated[
        float | None,
        typer.Option(help="The chance that a certificate holds, whatever is drawn.", show_default="0.95"),
    ] = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Certify all open tasks or none, as soon as the answers suffice.")
    ] = False,
    wrong: Annotated[
        int | None, typer.Option(min=0, help="With --whole, in place of --target: how many of the rest may be wrong.")
    ] = None,
    by_class: Annotated[bool, typer.Option("--by-class", help="A certificate for each predicted class.")] = False,
    looks: Annotated[
        int | None, typer.Option(min=1, help="How often you may try to accept; they share 1 - confidence.",
                                 show_default="1"),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, max=2**31 - 1, help="Of the draw; default: a new one.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what to expect, and write nothing.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="End the open audit without a decision.")] = False,
    json_output: AsJson = False,
) -> None:  # fmt: skip
    """Draw tasks that people label without a pre-annotation: they tell how right the rest is.

    It first says what to expect. Without options, while an audit is open, it says how far that is.

    Examples: `mollm audit 12 --labels 300 --dry-run`, `mollm audit 12 --labels 300 --target .95`, `mollm audit 12`.
    """
    loaded, store = open_store()
    found = projects.get(store, project)
    given = {"labels": labels, "target": target, "confidence": confidence, "looks": looks, "seed": seed,
             "wrong": wrong}  # fmt: skip
    given = {name: value for name, value in given.items() if value is not None}
    if cancel:
        ended = auditing.cancel(store, project)
        line = f"{ended.id} is cancelled; its answers are labels like any other."
        _show({"cancelled": ended.id}, [line], json_output)
    elif not given and not by_class and not whole and not dry_run and audits.newest(store, project, status=audits.OPEN):
        state = audit_report.state(store, found) or {}
        _show(state, [*state["lines"], _how_to_go_on(project, state)], json_output)
        return
    elif not _draw(
        store,
        queues.connect(loaded.queue_url),
        found,
        given | {"by_class": by_class, "whole": whole},
        dry_run=dry_run,
        json_output=json_output,
    ):
        return
    nudge(loaded, project)


def _draw(
    store: Store, connection: redis.Redis, project: Project, given: dict[str, Any], *, dry_run: bool, json_output: bool
) -> bool:
    """Plan an audit, say what to expect, and draw it. False on a dry run, which writes nothing."""
    must = [row for row in read(project.label_config).left if row.required and not row.sometimes]
    if must and not given.keys().isdisjoint({"target", "wrong"}):
        raise InputError(
            f"Nothing can be accepted in project {project.id}: people must fill {must[0].tag} {must[0].name!r} in each "
            "task. Remove `required` from it in Label Studio, or audit without --target, which estimates alone."
        )
    fresh = {"seed": int(np.random.default_rng().integers(2**31))}
    wanted = Wanted(**(fresh | given))
    if dry_run:
        with noted(connection, project.id, "planning an audit"), console.status("planning the audit ..."):
            planned = audit_outlook.plan(store, project, wanted)
        lines = [*planned.lines(), "Nothing was drawn: this was a dry run."]
        _show(planned.as_json() | {"id": None}, lines, json_output)
        return False
    asked = Asked(project.id, "audit", str(wanted.labels), COMMAND_LINE)
    with noted(connection, project.id, "planning an audit"), console.status("planning the audit ..."):
        planned, made = acting.draw(store, asked, wanted)
    drawn = f"{made.id}: people now see its {sum(part.labels for part in made.parts)} tasks among the others."
    go_on = f"`mollm audit {project.id}` says how far it is."
    _show(planned.as_json() | {"id": made.id}, [*planned.lines(), drawn, go_on], json_output)
    return True


def _how_to_go_on(project: int, state: dict[str, Any]) -> str:
    """What to do next, in words."""
    if not state["complete"]:
        return f"People see its tasks among the others; `mollm audit {project} --cancel` ends it."
    if state["target"] is None:
        return "All its tasks are answered: it is decided within seconds."
    return f"All its tasks are answered: `mollm accept {project}` says what may be accepted."


def _show(state: dict[str, Any], lines: list[str], json_output: bool) -> None:
    if json_output:
        print(json.dumps(state))
        return
    for line in lines:
        say(line)
