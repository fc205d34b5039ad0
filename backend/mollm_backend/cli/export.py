"""`mollm export`: every task's best label, as CSV or JSONL."""

from __future__ import annotations

import csv
import json
import sys
from enum import StrEnum
from typing import Annotated, Any

import typer

from mollm.records import HumanLabel, Provenance
from mollm_backend.cli.terminal import ProjectId, open_store
from mollm_backend.store import labels, projects, tasks, versions
from mollm_backend.store.decisions import shown

HIDDEN = "not shown"  # the provenance of a decision whose control the task's other labels hide


class Format(StrEnum):
    CSV = "csv"
    JSONL = "jsonl"


def export(project: ProjectId, format: Annotated[Format, typer.Option(help="csv or jsonl")] = Format.CSV) -> None:
    """Write every task's best label to stdout: the human's where there is one, else the mixture's.

    Example: `mollm export 12 > labels.csv`.
    """
    _loaded, store = open_store()
    found = projects.get(store, project)
    columns = _columns(found)
    annotations = labels.every(store, project)
    human = {key: {row.item: row for row in labels.human_labels(annotations, key)} for key in columns}
    certified = {key: labels.certified(annotations, key) for key in columns}
    predictions = versions.of_tasks(store, project, found.published_version or "")
    text = "+".join(source.field for source in found.decisions[0].sources)
    fields = ("task", text, *(name for names in columns.values() for name in names), "version")
    writer = csv.DictWriter(sys.stdout, fields) if format is Format.CSV else None
    if writer is not None:
        writer.writeheader()
    for task in tasks.every(store, project):
        row: dict[str, Any] = {"task": task.task_id, text: task.text, "version": ""}
        best: dict[str, tuple[str, float | None, str]] = {}
        for key in columns:
            mixture, person = predictions.get(task.task_id, {}).get(key), human[key].get(str(task.task_id))
            accepted = certified[key].get(task.task_id)
            if person is None and accepted is None and mixture is not None:
                row["version"] = found.published_version or ""
            best[key] = _best(person, accepted, mixture)
        seen = shown(found.decisions, {key: label or None for key, (label, *_) in best.items()})
        for key, names in columns.items():
            row |= dict(zip(names, best[key] if key in seen else ("", None, HIDDEN), strict=True))
        ordered = {name: row[name] for name in fields}
        if writer is not None:
            writer.writerow(ordered)
        else:
            print(json.dumps(ordered, ensure_ascii=False))


def _columns(project: projects.Project) -> dict[str, tuple[str, str, str]]:
    """The names of each decision's columns, by its key."""
    if len(project.decisions) == 1:
        return {project.decision.key: ("label", "probability", "provenance")}
    return {row.key: (row.name, f"{row.name} probability", f"{row.name} provenance") for row in project.decisions}


def _best(
    person: HumanLabel | None, accepted: str | None, mixture: versions.StoredPrediction | None
) -> tuple[str, float | None, str]:
    """Label, probability and provenance: the person's, else what a certificate accepted, else the mixture's.

    An accepted label has no probability: its certificate says how many of all are right.
    """
    if person is not None:
        return person.label, 1.0, person.provenance.value
    if accepted is not None:
        return accepted, None, Provenance.CERTIFIED.value
    if mixture is not None:
        return mixture.label, round(mixture.confidence, 6), "mixture"
    return "", 0.0, "none"
