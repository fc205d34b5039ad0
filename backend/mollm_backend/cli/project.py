"""`mollm connect`, `disconnect`, `doctor`: tie a Label Studio project to this backend, and see what hinders it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from mollm_backend.cli import working
from mollm_backend.cli.loop import AsJson, nudge, open_store
from mollm_backend.cli.options import instruction_of
from mollm_backend.labelstudio import connect as connecting
from mollm_backend.labelstudio import doctor as doctoring
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.label_config import lines_of
from mollm_backend.labelstudio.reconcile import reconcile
from mollm_backend.labelstudio.ssrf import is_local
from mollm_backend.settings import Settings
from mollm_backend.store import Store, labels, projects, tasks

console = Console()
STYLES = {"fine": "green", "notice": "yellow", "problem": "red"}
Project = Annotated[int | None, typer.Option("--project", help="The same, as an option.")]
Number = Annotated[
    int | None, typer.Argument(metavar="PROJECT", help="The project's number in Label Studio: N in .../projects/N.")
]
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


def _one(number: int | None, project: int | None) -> int:
    """The project, however it was given. Raises BadParameter where it was not, or twice."""
    found = {given for given in (number, project) if given is not None}
    if len(found) != 1:
        raise typer.BadParameter("give the project's number once, as in .../projects/N of its page.")
    return found.pop()


def connect(
    number: Number = None,
    project: Project = None,
    url: Url = "",
    backend_url: Annotated[
        str, typer.Option("--backend-url", help="This backend's address as Label Studio sees it.")
    ] = "",
    instruction: Annotated[
        str, typer.Option(help="What the LLMs are told to do in this project; default: the panel's own words.")
    ] = "",
) -> None:
    """Connect a project: backend row, webhook, sampling; its annotations become the first training set."""
    chosen = _one(number, project)
    with _opened(url) as (settings, store, client):
        here = backend_url or _address(store, settings, chosen)
        with console.status(f"connecting project {chosen} of {client.url} ..."):
            found = connecting.connect(store, client, settings, chosen, here)
        if instruction:
            projects.change(store, chosen, options=found.options | {"instruction": instruction})
            found = projects.get(store, chosen)
        told = (
            f"The LLMs are told: {instruction_of(found, settings).strip()!r} (`mollm options {chosen} --instruction`)."
        )
        for line in (*_connected(found), *_taken_in(store, found), told):
            console.print(line, highlight=False, soft_wrap=True, markup=False)
        nudge(settings, chosen)
        for finding in doctoring.examine(store, client, settings, chosen):
            if finding.kind != "fine":
                _print(finding)
        console.print(f"Next: watch {here}/ or `mollm doctor {chosen}`.", highlight=False, soft_wrap=True)


def _address(store: Store, settings: Settings, project: int) -> str:
    """The backend's address where none is given: as set, as connected before, or where `mollm up` serves."""
    known = projects.find(store, project)
    before = str(known.connection.get("backend_url", "")) if known and "ml_backend" in known.connection else ""
    if settings.backend_url or (before and not is_local(before)):
        return settings.backend_url or before
    return settings.running_backend() or before or f"http://{settings.host}:{settings.port}"


def _connected(found: projects.Project) -> list[str]:
    """What was found: the labels of the only decision, or a line a control."""
    start = f"Connected project {found.id} ({found.title!r})"
    if len(found.decisions) == 1 and found.decision.kind == "choices":
        return [f"{start}: labels {', '.join(found.decision.labels.names)}."]
    return [f"{start}, which asks:", *(f"  {line}" for line in lines_of(found.decisions))]


def _taken_in(store: Store, found: projects.Project) -> list[str]:
    """What there is to work on, and what happens now."""
    count, _unreadable = tasks.count(store, found.id)
    human = labels.count(store, found.id)
    if not count:
        return ["It has no tasks yet: import some, the panel reads them as they come."]
    learned = f", {human} labels of people (the first training set)" if human else ""
    then = f"{found.published_version} is published" if found.published_version else "the panel reads them now"
    return [f"Taken in: {count} tasks{learned}; {then}."]


def disconnect(number: Number = None, project: Project = None, url: Url = "") -> None:
    """Take the backend and the webhook away and put back what connect found; labels and predictions stay."""
    chosen = _one(number, project)
    with _opened(url) as (_settings, store, client):
        for line in connecting.disconnect(store, client, chosen):
            console.print(line, highlight=False, soft_wrap=True)
        console.print(f"Project {chosen} is disconnected.", highlight=False)


def doctor(
    number: Annotated[int | None, typer.Argument(metavar="PROJECT", help="One project; default: all.")] = None,
    project: Project = None,
    url: Url = "",
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Let labels go that are no longer in Label Studio.")
    ] = False,
    json_output: AsJson = False,
) -> None:
    """Look at Label Studio, the network in both directions, webhook, stream and worker; exit 1 on a problem."""
    one = None if number is None and project is None else _one(number, project)
    with _opened(url) as (settings, store, client):
        chosen = projects.every(store) if one is None else [projects.get(store, one)]
        if accept_loss:
            for found in chosen:
                reconcile(store, client, found.id, accept_loss=True, full=True)
        findings = [*doctoring.examine(store, client, settings, one), *working.examine(store, settings, chosen)]
    if json_output:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            _print(finding)
    if any(finding.kind == "problem" for finding in findings):
        raise typer.Exit(1)


def _print(finding: doctoring.Finding) -> None:
    """One line: what is so, and after it what to do."""
    fix = f". Fix: {finding.fix.rstrip('.')}." if finding.fix else ""
    console.print(Text(f"{finding.kind:8}", STYLES[finding.kind]) + f"{finding.line}{fix}", soft_wrap=True)
