"""`mollm finish`: what it will take until a whole project is right enough, in labels and in hours."""

from __future__ import annotations

import json
from contextlib import closing
from typing import Annotated

import typer

from mollm.acceptance.plan import pace
from mollm.errors import MollmError
from mollm_backend.cli.terminal import AsJson, ProjectId, note, open_store, say
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.settings import Settings
from mollm_backend.store import Store, projects
from mollm_backend.work import finishing


def finish(
    project: ProjectId,
    target: Annotated[float, typer.Option(help="Share of all tasks that must be right; a person's label is.")] = 0.95,
    confidence: Annotated[float, typer.Option(help="How sure the promise must be, over the draw of audits.")] = 0.95,
    json_output: AsJson = False,
) -> None:
    """Say what it takes until all tasks are right enough: batches, audits, or labelling the rest; labels and hours.

    Example: `mollm finish 12 --target .95`.
    """
    loaded, store = open_store()
    found = projects.get(store, project)
    goal = finishing.goal_of(found, loaded.batch_size, target, confidence)
    standing = finishing.of(store, found, goal, _seconds(loaded, store, found))
    if json_output:
        print(json.dumps({"project": project} | standing.as_json()))
        return
    say(f"{found.id} {found.title}")
    for line in (*standing.lines(), standing.command()):
        if line:
            say(f"  {line}")


def _seconds(loaded: Settings, store: Store, project: projects.Project) -> float | None:
    """Seconds a label, as Label Studio measured them; None, and a note why, where it cannot be asked."""
    try:
        with closing(LabelStudioClient.of(loaded)) as client:
            return pace(finishing.lead_times(store, client, project))
    except MollmError as error:
        note(f"the pace is taken from the times between annotations: {error}")
        return None
