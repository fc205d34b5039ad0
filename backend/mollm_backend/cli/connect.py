"""`mollm connect`: tie a Label Studio project to this backend."""

from __future__ import annotations

from typing import Annotated

import typer

from mollm_backend.cli.doctor import print_finding
from mollm_backend.cli.terminal import Number, NumberOption, Url, console, nudge, one_number, opened, say
from mollm_backend.doctor import label_studio
from mollm_backend.labelstudio import connect as connecting
from mollm_backend.labelstudio.label_config import lines_of
from mollm_backend.labelstudio.ssrf import is_local
from mollm_backend.settings import Settings
from mollm_backend.store import Store, labels, projects, tasks


def connect(
    number: Number = None,
    project: NumberOption = None,
    url: Url = "",
    backend_url: Annotated[
        str, typer.Option("--backend-url", help="This backend's address as Label Studio sees it.")
    ] = "",
    instruction: Annotated[
        str, typer.Option(help="What the LLMs are told to do in this project; default: the panel's own words.")
    ] = "",
    show_why: Annotated[
        bool | None,
        typer.Option(
            "--show-why/--hide-why",
            help="Show on the labelling screen how sure mollm is, why the task came and what each LLM says: adds one "
            "field to the label config, which `mollm disconnect` takes out again.",
        ),
    ] = None,
) -> None:
    """Connect a project: backend, webhook, sampling, tabs; its annotations become the first training set."""
    chosen = one_number(number, project)
    with opened(url) as (settings, store, client):
        here = backend_url or _address(store, settings, chosen)
        told: list[str] = []
        with console.status(f"connecting project {chosen} of {client.url} ..."):
            found = connecting.connect(store, client, settings, chosen, here, why=show_why, tell=told.append)
        if instruction:
            projects.change(store, chosen, options=found.options | {"instruction": instruction})
            found = projects.get(store, chosen)
        instructed = found.instruction(settings.panel_config().instruction).strip()
        for line in (*_connected(found), *_taken_in(store, found), *(f"{line[0].upper()}{line[1:]}." for line in told)):
            say(line)
        say(f"The LLMs are told: {instructed!r} (`mollm options {chosen} --instruction`).")
        nudge(settings, chosen)
        for finding in label_studio.examine(store, client, settings, chosen):
            if finding.kind != "fine":
                print_finding(finding)
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
