"""`mollm plan`: what labelling so many tasks takes, in hours, money and storage, before it is begun."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Annotated

import typer
from rich.table import Table

from mollm.acceptance.plan import pace
from mollm.config import PanelConfig
from mollm.errors import InputError
from mollm.metrics import Estimate
from mollm_backend import packages, panels
from mollm_backend.cli.terminal import AsJson, console, open_store, say
from mollm_backend.settings import Settings
from mollm_backend.store import Store, labels, projects, signals, tasks
from mollm_backend.store.projects import Project
from mollm_backend.work import finishing, measured, planning
from mollm_backend.work.planning import Given, Plan, Speed

LONGER = 1.5  # times the measured length (chosen by hand): from there on a reading by length differs visibly


def plan(
    project: Annotated[
        int | None, typer.Argument(metavar="[PROJECT]", help="A connected project: its tasks and its own costs.")
    ] = None,
    tasks_: Annotated[int, typer.Option("--tasks", min=0, help="Tasks; default: those of the project.")] = 0,
    panel: Annotated[str, typer.Option(help="A panel's name or TOML file; default: the one in use.")] = "",
    gpus: Annotated[int, typer.Option(min=1, help="GPUs, or hosts, that share the reading.")] = 1,
    price_per_gpu_hour: Annotated[float | None, typer.Option(min=0, help="Of a GPU, or of the host.")] = None,
    price_per_million_tokens: Annotated[
        float | None, typer.Option(min=0, help="Of a decision endpoint to compare with.")
    ] = None,
    people_seconds: Annotated[
        float | None, typer.Option(min=0, help="Of a person, a label; default: the project's own pace.")
    ] = None,
    people_price: Annotated[float | None, typer.Option(min=0, help="Of a person, an hour.")] = None,
    human: Annotated[int, typer.Option("--labels", min=0, help="Labels that people give beside the panel.")] = 300,
    json_output: AsJson = False,
) -> None:
    """Say what labelling so many tasks takes: hours, tokens, money, storage; the panel, an endpoint, or people alone.

    Every figure was measured on this installation; what was not is a dash, and a line says which command measures it.
    The interval (95 %) is that of the measured speed: another load, or longer texts, are not in it. GPUs are taken to
    share the reading evenly; `mollm bench workers` measures that. With PROJECT the plan is kept, and `mollm report`
    says how far off it was.
    """
    loaded, store = open_store()
    named = panel or loaded.panel or panels.DEFAULT
    config = panels.load(named, loaded.home)
    found = projects.get(store, project) if project is not None else None
    count = tasks_ or (tasks.count(store, found.id)[0] if found else 0)
    if not count:
        raise InputError("Say how many tasks: `mollm plan --tasks 10000000`, or name a project that has some.")
    seconds = people_seconds if people_seconds is not None or found is None else _pace(store, found)
    given = Given(
        count, len(found.decisions) if found else 1, gpus, price_per_gpu_hour, price_per_million_tokens, seconds,
        people_price, human,
    )  # fmt: skip
    figures = measured.every(loaded.home)
    speeds = planning.speeds_of(config.annotators, figures, signals.daily(store, found.id) if found else {})
    made = planning.plan(config.annotators, speeds, planning.bookkeeping_of(figures), given, named)
    longer = _longer(store, found, speeds) if found else []
    if found:
        planning.remember(store, found, made)
    if json_output:
        print(json.dumps(made.as_json() | {"models_bytes": _models(loaded, config), "longer": longer}))
        return
    _print(made, [*longer, _models_line(loaded, config)])


def _pace(store: Store, project: Project) -> float | None:
    return pace(finishing.gaps(labels.of_people(labels.every(store, project.id))))


def _longer(store: Store, project: Project, speeds: Mapping[str, Speed]) -> list[str]:
    """Who was measured on texts of another length than this project's."""
    mean = tasks.mean_length(store, project.id)
    return [
        f"the project's texts have {mean:.0f} characters, those that {name} was measured on {one.characters:.0f}: "
        "measure with `mollm bench annotate --panel FILE --file TEXTS.csv`"
        for name, one in speeds.items()
        if one.characters and mean and max(mean / one.characters, one.characters / mean) > LONGER
    ]


def _models(loaded: Settings, config: PanelConfig) -> int:
    """Bytes of the models that lie on this machine."""
    places = {loaded.models_dir / one.model for one in config.annotators if one.runtime in packages.LOCAL}
    files = (file for place in places for file in ([place] if place.is_file() else place.rglob("*")))
    return sum(file.stat().st_size for file in files if file.is_file())


def _models_line(loaded: Settings, config: PanelConfig) -> str:
    size = _models(loaded, config)
    return f"the models on this machine take {size / planning.GB:.3g} GB" if size else ""


def _print(made: Plan, more: Sequence[str]) -> None:
    table = Table(
        "way", "hours", "machine hours", "tokens", "people's hours", "money", title=f"{made.given.tasks:,} tasks"
    )
    for way in made.ways:
        table.add_row(
            way.name, _cell(way.hours), _cell(way.machine), _number(way.tokens), _number(way.people), _cell(way.money)
        )
    console.print(table)
    for line in (*made.lines, *more, *made.missing):
        if line:
            say(line)


def _cell(one: Estimate | None) -> str:
    return "-" if one is None else f"{_number(one.value)}{planning.interval(one)}"


def _number(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
