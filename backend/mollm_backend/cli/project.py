"""`mollm connect`, `disconnect`, `doctor`: tie a Label Studio project to this backend, and see what hinders it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from mollm.store import Store, projects
from mollm_backend.cli.loop import AsJson, nudge, open_store
from mollm_backend.labelstudio import connect as connecting
from mollm_backend.labelstudio import doctor as doctoring
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.label_config import lines_of
from mollm_backend.labelstudio.reconcile import reconcile
from mollm_backend.settings import Settings

console = Console()
Project = Annotated[int, typer.Option("--project", help="The project's number in Label Studio.")]
Url = Annotated[str, typer.Option("--url", help="Label Studio's address; default: LABEL_STUDIO_URL.")]


@contextmanager
def _opened(url: str) -> Iterator[tuple[Settings, Store, LabelStudioClient]]:
    settings, store = open_store()
    client = LabelStudioClient(
        url or settings.label_studio_url, settings.label_studio_api_key.get_secret_value()
    )  # fmt: skip
    try:
        yield settings, store, client
    finally:
        client.close()
        store.close()


def connect(
    project: Project,
    url: Url = "",
    backend_url: Annotated[
        str, typer.Option("--backend-url", help="This backend's address as Label Studio sees it.")
    ] = "",
) -> None:
    """Connect a project: backend row, webhook, sampling; its annotations become the first training set."""
    with _opened(url) as (settings, store, client):
        here = backend_url or settings.backend_url or f"http://{settings.host}:{settings.port}"
        with console.status(f"connecting project {project} of {client.url} ..."):
            found = connecting.connect(store, client, settings, project, here)
        for line in _connected(found):
            console.print(line, highlight=False, soft_wrap=True)
        nudge(settings, project)
        for finding in doctoring.examine(store, client, settings, project):
            if finding.kind == "problem":
                console.print(f"[red]problem[/red] {finding.line}. Fix: {finding.fix}.")


def _connected(found: projects.Project) -> list[str]:
    """What was found: the labels of the only decision, or a line a control."""
    start = f"Connected project {found.id} ({found.title!r})"
    if len(found.decisions) == 1 and found.decision.kind == "choices":
        return [f"{start}: labels {', '.join(found.decision.labels.names)}."]
    return [f"{start}, which asks:", *(f"  {line}" for line in lines_of(found.decisions))]


def disconnect(project: Project, url: Url = "") -> None:
    """Take the backend and the webhook away and put back what connect found; labels and predictions stay."""
    with _opened(url) as (_settings, store, client):
        for line in connecting.disconnect(store, client, project):
            console.print(line)
        console.print(f"Project {project} is disconnected.")


def doctor(
    project: Annotated[int | None, typer.Option("--project", help="One project; default: all.")] = None,
    url: Url = "",
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Let labels go that are no longer in Label Studio.")
    ] = False,
    json_output: AsJson = False,
) -> None:
    """Look at Label Studio, the network in both directions, webhook and stream; exit 1 if there is a problem."""
    with _opened(url) as (settings, store, client):
        if accept_loss:
            for found in projects.every(store) if project is None else [projects.get(store, project)]:
                reconcile(store, client, found.id, accept_loss=True, full=True)
        findings = doctoring.examine(store, client, settings, project)
    if json_output:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            fix = f". Fix: {finding.fix}" if finding.fix else ""
            console.print(f"{finding.kind:8} {finding.line}{fix}", highlight=False, soft_wrap=True)
    if any(finding.kind == "problem" for finding in findings):
        raise typer.Exit(1)
