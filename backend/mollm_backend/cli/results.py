"""`mollm explain`, `report`, `export`: what the mixture says and what it cost."""

from __future__ import annotations

import csv
import json
import sys
from dataclasses import asdict
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from mollm.errors import ConfigError, InputError
from mollm.records import HumanLabel
from mollm_backend.cli.loop import SCORES, AsJson, ProjectId, open_store
from mollm_backend.store import Store, batches, labels, projects, signals, tasks, versions
from mollm_backend.store.decisions import Decision
from mollm_backend.web import dashboard
from mollm_backend.work import people, queues

console = Console()


class Format(StrEnum):
    CSV = "csv"
    JSONL = "jsonl"


def explain(
    project: ProjectId, task: Annotated[int, typer.Argument(help="The task's number.")], json_output: AsJson = False
) -> None:
    """Say what each LLM, the mixture and the classifier think of a task, and why it is (not) shown next."""
    _loaded, store = open_store()
    found = projects.get(store, project)
    row = tasks.some(store, project, [task]).get(task)
    if row is None:
        raise InputError(f"Task {task} is not in the store: it was deleted, or not reconciled yet (`mollm doctor`).")
    shown: dict[str, Any] = {"task": task, "text": row.text, "problem": row.problem}
    said = versions.said(store, project, found.published_version or "", [task]).get(task, {})
    each = {
        decision.name: _decision(store, found, decision, row, said.get(decision.key)) for decision in found.decisions
    }
    shown |= next(iter(each.values())) if len(each) == 1 else {"decisions": each}
    prediction = next((said[decision.key] for decision in found.decisions if decision.key in said), None)
    entry = {row.task_id: row for row in batches.entries(store, project, found.batch_version or "")}.get(task)
    shown["batch"] = (
        None if entry is None else {"rank": entry.rank, "reason": entry.reason, "published_at": entry.published_at}
    )
    human = [asdict(row) for row in labels.every(store, project) if row.task_id == task]
    shown["human"] = [{key: value for key, value in row.items() if key != "decision" or value} for row in human]
    shown["visible"] = _visible(found, row, prediction, entry)
    if json_output:
        print(json.dumps(shown, default=str))
        return
    _print_explanation(shown)


def _decision(
    store: Store, project: projects.Project, decision: Decision, task: tasks.Task,
    prediction: versions.StoredPrediction | None,
) -> dict[str, Any]:  # fmt: skip
    """What each LLM, the mixture and the classifier say of one decision."""
    names = decision.labels.names
    panel = signals.load(store, project, [task], decision)
    shown: dict[str, Any] = {"panel": {}, "labels": list(names)}
    for m, member in enumerate(panel.annotators):
        answered = not panel.missing[0, m]
        shown["panel"][member] = dict(zip(names, panel.label_probs[0, m].tolist(), strict=True)) if answered else None
    if prediction is not None:
        shown["mixture"] = dict(zip(names, prediction.probs.tolist(), strict=True))
        shown["negatives"] = list(prediction.negatives)
        if prediction.classifier_probs is not None:
            shown["classifier"] = dict(zip(names, prediction.classifier_probs.tolist(), strict=True))
    return shown


def _visible(
    project: projects.Project, task: tasks.Task, prediction: versions.StoredPrediction | None,
    entry: batches.StoredEntry | None,
) -> str:  # fmt: skip
    """Why the pre-annotation is or is not visible, in words."""
    if task.problem:
        return f"no: {task.problem}"
    if project.published_version is None:
        return "no: no version is published yet, the panel is still reading"
    if prediction is None:
        return f"no: {project.published_version} does not know this task yet; the next round will"
    if prediction.text_key != task.text_key:
        return "no: the text was edited after the prediction; the next round reads it again"
    if entry is None:
        return "when the task is opened: it is outside the batch, Label Studio asks the backend for it"
    if entry.published_at is None:
        return "soon: the batch is being published"
    return f"yes: published in {project.batch_version}"


def _print_explanation(shown: dict[str, Any]) -> None:
    console.print(shown["text"] or shown["problem"], style="bold", soft_wrap=True, markup=False)
    if shown["text"]:
        for name, decision in shown.get("decisions", {"": shown}).items():
            console.print(_opinions(name, decision))
    batch = shown["batch"]
    _say(f"Next batch: {'not in it' if batch is None else 'place {rank}. {reason}'.format(**batch)}")
    for row in shown["human"]:
        of = f"{row['decision']}: " if "decision" in row else ""
        said = row["label"] or ("skipped" if row["was_cancelled"] or not of else row["problem"])
        _say(f"Human {row['user_id']}: {of}{said} ({row['provenance']})")
    _say(f"Pre-annotation visible: {shown['visible']}")


def _say(line: str) -> None:
    """One line, however narrow the terminal, and nothing in it taken for markup."""
    console.print(line, highlight=False, soft_wrap=True, markup=False)


def _opinions(name: str, shown: dict[str, Any]) -> Table:
    """A row for each LLM, the mixture and the classifier; a column a label."""
    table = Table("who", *shown["labels"], title=name or None)
    for who, probs in [
        *shown["panel"].items(),
        ("mixture", shown.get("mixture")),
        ("classifier", shown.get("classifier")),
    ]:
        cells = ["-"] * len(shown["labels"]) if probs is None else [f"{value:.3f}" for value in probs.values()]
        table.add_row(who, *cells)
    return table


def report(
    project: Annotated[int | None, typer.Argument(help="One project; default: all.")] = None,
    json_output: AsJson = False,
) -> None:
    """Report one project or all: labels, scores, versions, and what each annotator has cost."""
    loaded, store = open_store()
    if project is not None:
        projects.get(store, project)
    state = dashboard.status(store, queues.connect(loaded.queue_url))
    if project is not None:
        state["projects"] = [row for row in state["projects"] if row["id"] == project]
        state["costs"] = {name: asdict(cost) for name, cost in signals.costs(store, project).items()}
    for row in state["projects"]:
        try:
            found = projects.get(store, row["id"])
            row["people"] = people.of_project(store, found, labels.every(store, found.id))
        except ConfigError as error:
            row["people"] = {"lines": [str(error)]}
    if json_output:
        print(json.dumps(state))
        return
    if not state["projects"]:
        _say("No project is connected yet: `mollm connect N`, with N as in .../projects/N of its page.")
    for row in state["projects"]:
        _report(row)
    if state["costs"]:
        _print_costs(state["costs"])


def _report(project: dict[str, Any]) -> None:
    """One project in lines."""
    version = project["version"] or {"id": "none yet", "scores": {}, "notes": [], "human_labels": 0}
    console.print(f"{project['id']} {project['title']}", style="bold", highlight=False, soft_wrap=True, markup=False)
    _say(f"  {project['tasks']} tasks, {project['human_labels']} human labels ({version['human_labels']} learned), "
         f"version {version['id']}")  # fmt: skip
    scores = [f"{name} {version['scores'][key]:.3f}" for name, key in SCORES.items() if key in version["scores"]]
    lines = [f"{', '.join(scores)} (cross-fitted on the human labels)" if scores else ""]
    for line in (*lines, *version["notes"], project["budget"]["line"], *project["people"]["lines"]):
        if line:
            _say(f"  {line}")


def _print_costs(costs: dict[str, dict[str, float]]) -> None:
    table = Table("annotator", "texts", "calls", "prompt tokens", "completion tokens", "seconds", title="Cost")
    for name, cost in costs.items():
        figures = (cost["texts"], cost["calls"], cost["prompt_tokens"], cost["completion_tokens"])
        table.add_row(name, *(str(figure) for figure in figures), f"{cost['seconds']:.0f}")
    console.print(table)


def export(project: ProjectId, format: Annotated[Format, typer.Option(help="csv or jsonl")] = Format.CSV) -> None:
    """Write every task's best label to stdout: the human's where there is one, else the mixture's."""
    _loaded, store = open_store()
    found = projects.get(store, project)
    annotations = labels.every(store, project)
    human = {key: {row.item: row for row in labels.human_labels(annotations, key)} for key in _keys(found)}
    said = versions.said(store, project, found.published_version or "")
    columns = _columns(found)
    text = "+".join(source.field for source in found.decisions[0].sources)
    fields = ("task", text, *(name for names in columns.values() for name in names), "version")
    writer = csv.DictWriter(sys.stdout, fields) if format is Format.CSV else None
    if writer is not None:
        writer.writeheader()
    for task in tasks.every(store, project):
        row: dict[str, Any] = {"task": task.task_id, text: task.text, "version": ""}
        for key, names in columns.items():
            mixture, person = said.get(task.task_id, {}).get(key), human[key].get(str(task.task_id))
            if person is None and mixture is not None:
                row["version"] = found.published_version or ""
            row |= dict(zip(names, _best(person, mixture), strict=True))
        ordered = {name: row[name] for name in fields}
        if writer is not None:
            writer.writerow(ordered)
        else:
            print(json.dumps(ordered, ensure_ascii=False))


def _keys(project: projects.Project) -> list[str]:
    return [decision.key for decision in project.decisions]


def _columns(project: projects.Project) -> dict[str, tuple[str, str, str]]:
    """The names of each decision's columns, by its key."""
    if len(project.decisions) == 1:
        return {project.decision.key: ("label", "probability", "provenance")}
    return {row.key: (row.name, f"{row.name} probability", f"{row.name} provenance") for row in project.decisions}


def _best(person: HumanLabel | None, mixture: versions.StoredPrediction | None) -> tuple[str, float, str]:
    """Label, probability and provenance: the person's, else the mixture's."""
    if person is not None:
        return person.label, 1.0, person.provenance.value
    if mixture is not None:
        return mixture.label, round(mixture.confidence, 6), "mixture"
    return "", 0.0, "none"
