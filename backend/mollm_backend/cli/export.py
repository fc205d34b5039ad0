"""`mollm export`: every task's best label, as CSV or JSONL; a dataset; the classifier as a model."""

from __future__ import annotations

import csv
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from mollm.errors import InputError
from mollm_backend.cli.terminal import ProjectId, console, open_store, say
from mollm_backend.store import Store, projects
from mollm_backend.work import best, dataset


class Format(StrEnum):
    CSV = "csv"
    JSONL = "jsonl"
    HF = "hf"


def export(
    project: ProjectId,
    format: Annotated[
        Format, typer.Option(help="csv or jsonl to stdout; hf: a directory for `datasets`.")
    ] = Format.CSV,
    to: Annotated[Path | None, typer.Option(help="The directory of hf; default: project-N here.")] = None,
    model: Annotated[Path | None, typer.Option(help="Write the classifier into this directory instead.")] = None,
) -> None:
    """Write every task's best label: the human's where there is one, else the mixture's.

    `--format hf` writes a directory that `datasets.load_dataset` reads offline. `--model` writes the classifier as a
    model that transformers loads alone, with a card and a calibrated predict.py; it takes minutes for thousands of
    texts.

    Examples: `mollm export 12 > labels.csv`, `mollm export 12 --format hf --to tickets`, `mollm export 12 --model m`.
    """
    loaded, store = open_store()
    found = projects.get(store, project)
    if model is not None:
        from mollm_backend.jobs import classifier  # torch loads slowly

        with console.status("reading what is known ...") as status:
            for line in classifier.write(loaded, store, found, model, lambda said: status.update(f"{said} ...")):
                say(line)
        return
    if format is Format.HF:
        directory = to or Path(f"project-{project}")
        counts = dataset.write(store, found, directory)
        said = ", ".join(f"{count} rows in {name}" for name, count in counts.items())
        say(f"{directory}: {said}. `datasets.load_dataset({str(directory)!r})` reads it.")
        return
    if to is not None:
        raise InputError("--to names the directory of --format hf; csv and jsonl go to stdout: `> labels.csv`.")
    _print(store, found, format)


def _print(store: Store, project: projects.Project, format: Format) -> None:
    columns = _columns(project)
    text = "+".join(source.field for source in project.decisions[0].sources)
    fields = ("task", text, *(name for names in columns.values() for name in names), "version")
    writer = csv.DictWriter(sys.stdout, fields) if format is Format.CSV else None
    if writer is not None:
        writer.writeheader()
    for row in best.rows(store, project):
        values: dict[str, Any] = {"task": row.task.task_id, text: row.task.text, "version": row.version}
        for key, names in columns.items():
            one = row.best[key]
            values |= dict(zip(names, (one.label, one.probability, one.provenance), strict=True))
        ordered = {name: values[name] for name in fields}
        if writer is not None:
            writer.writerow(ordered)
        else:
            print(json.dumps(ordered, ensure_ascii=False))


def _columns(project: projects.Project) -> dict[str, tuple[str, str, str]]:
    """The names of each decision's columns, by its key."""
    if len(project.decisions) == 1:
        return {project.decision.key: ("label", "probability", "provenance")}
    return {row.key: (row.name, f"{row.name} probability", f"{row.name} provenance") for row in project.decisions}
