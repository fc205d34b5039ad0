"""`mollm recheck`: the human labels that most speaks against, for a second look."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Annotated

import typer
from rich.table import Table

from mollm.errors import InputError
from mollm_backend.cli.terminal import AsJson, ProjectId, console, opened, say
from mollm_backend.labelstudio import recheck as rechecking
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.errors import LabelStudioError
from mollm_backend.store import Store, projects, tasks, versions
from mollm_backend.store import labels as stored_labels
from mollm_backend.store.projects import Project
from mollm_backend.work import suspects
from mollm_backend.work.suspects import SuspectLabel

SHOWN = 60  # characters of a text in the table: a line or two beside the reason; --json has all of it


def recheck(
    project: ProjectId,
    labels: Annotated[int, typer.Option(min=1, max=suspects.STORED, help="How many labels, the most suspect.")] = 20,
    list_only: Annotated[bool, typer.Option("--list", help="List them; show people nothing.")] = False,
    done: Annotated[bool, typer.Option("--done", help="Take the tab away again. No annotation changes.")] = False,
    json_output: AsJson = False,
) -> None:
    """List the human labels that most speaks against, and show their tasks to people again in a tab.

    Examples: `mollm recheck 12 --list`, `mollm recheck 12 --labels 20`, `mollm recheck 12 --done`.
    """
    with opened() as (_loaded, store, client):
        found = projects.get(store, project)
        if done:
            gone = rechecking.remove(client, project)
            say(f'The tab "{rechecking.TAB}" is gone.' if gone else f'There is no tab "{rechecking.TAB}".')
            return
        rows = _suspects(store, found)[:labels]
        _print(rows, store, client, project, json_output)
        if not rows or list_only:
            return
        first = {row.task: row.annotation for row in reversed(rows)}  # a task with two suspect labels is shown once
        line = rechecking.show(client, project, first)
        if not json_output:
            say(line[0].upper() + line[1:] + ".")


def _suspects(store: Store, project: Project) -> list[SuspectLabel]:
    """Raises InputError where there is no version, or only one that has not looked for suspects."""
    version = versions.find(store, project.id, project.published_version)
    if version is None or not suspects.known(version.facts):
        why = "No version is published yet" if version is None else f"{version.id} was trained before this command came"
        raise InputError(f"{why}, so no label was checked: `mollm train {project.id}`.")
    return suspects.listed(store, project)


def _print(
    rows: Sequence[SuspectLabel], store: Store, client: LabelStudioClient, project: int, json_output: bool
) -> None:
    people: Mapping[int, str] = {}
    with suppress(LabelStudioError):  # the list needs the store alone; without the names it shows the users' numbers
        people = client.user_names() if rows else {}
    texts = {number: row.text or "" for number, row in tasks.some(store, project, [row.task for row in rows]).items()}
    named = [
        {"text": texts.get(row.task, ""), "by": people.get(row.user, f"user {row.user}")} | asdict(row) for row in rows
    ]
    if json_output:
        print(json.dumps(named))
        return
    if not named and not stored_labels.count(store, project):
        say("People have not labelled anything yet, so there is nothing to look at again.")
        return
    if not named:
        say("No label is suspect: nothing more speaks against one than for it, or people have decided since.")
        return
    table = Table("task", "text", "label", "by", "nats", "who says what")
    for row in named:
        text = str(row["text"])
        short = text if len(text) <= SHOWN else text[: SHOWN - 1] + "…"
        given = f"{row['decision']}: {row['given']}" if row["decision"] else str(row["given"])
        table.add_row(str(row["task"]), short, given, str(row["by"]), f"{row['score']:.1f}", str(row["reason"]))
    console.print(table, markup=False)
