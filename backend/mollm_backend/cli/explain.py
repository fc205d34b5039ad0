"""`mollm explain`: what each LLM, the mixture and the classifier think of one task."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer

from mollm.errors import InputError
from mollm.records import Provenance
from mollm_backend.cli.terminal import AsJson, ProjectId, console, open_store, say
from mollm_backend.store import Store, audits, batches, labels, projects, signals, tasks, versions
from mollm_backend.store.decisions import Decision

BLIND = "no: it is a task of an audit, which people label without a pre-annotation"


NOT_READ = "has not read it, or gave no usable answer"


def explain(
    project: ProjectId,
    task: Annotated[int, typer.Argument(metavar="TASK", help="The task's number in Label Studio.")],
    json_output: AsJson = False,
) -> None:
    """Say what each LLM, the mixture and the classifier think of a task, and why it is (not) shown next.

    Example: `mollm explain 12 3456`.
    """
    loaded, store = open_store()
    found = projects.get(store, project)
    row = tasks.some(store, project, [task]).get(task)
    if row is None:
        raise InputError(
            f"Task {task} is not in the store: it was deleted, or not reconciled yet (`mollm doctor {project}`)."
        )
    shown: dict[str, Any] = {"task": task, "text": row.text, "problem": row.problem}
    predictions = versions.of_tasks(store, project, found.published_version or "", [task]).get(task, {})
    each = {one.name: _decision(store, found, one, row, predictions.get(one.key)) for one in found.decisions}
    shown |= next(iter(each.values())) if len(each) == 1 else {"decisions": each}
    prediction = next((predictions[one.key] for one in found.decisions if one.key in predictions), None)
    entry = {row.task_id: row for row in batches.entries(store, project, found.batch_version or "")}.get(task)
    size = int(found.options.get("batch_size", loaded.batch_size))
    shown["batch"] = _place(batches.waiting(store, project, found.batch_version or ""), task, size)
    human = [asdict(row) for row in labels.every(store, project, [task])]
    shown["human"] = [{key: value for key, value in row.items() if key != "decision" or value} for row in human]
    apart = task in audits.set_aside(store, project)
    shown["visible"] = BLIND if apart else _visible(found, row, prediction, entry)
    if json_output:
        print(json.dumps(shown, default=str))
        return
    _print_explanation(shown)


def _place(waiting: Sequence[batches.StoredEntry], task: int, size: int) -> dict[str, Any] | None:
    """The task's place among those that people still see, counted from 1; None where it is not one of them.

    The first `size` of them are the next batch, the others its reserve.
    """
    for place, entry in enumerate(waiting, 1):
        if entry.task_id == task:
            return {
                "place": place, "of": len(waiting), "size": min(size, len(waiting)), "reason": entry.reason,
                "published_at": entry.published_at,
            }  # fmt: skip
    return None


def _decision(
    store: Store, project: projects.Project, decision: Decision, task: tasks.Task,
    prediction: versions.StoredPrediction | None,
) -> dict[str, Any]:  # fmt: skip
    """What each LLM, the mixture and the classifier say of one decision, and under `says` the label of each."""
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
    everyone = shown["panel"] | {who: shown.get(who) for who in ("mixture", "classifier")}
    shown["says"] = {who: _chosen(decision, probs) for who, probs in everyone.items() if probs is not None}
    return shown


def _chosen(decision: Decision, probs: dict[str, float]) -> dict[str, Any]:
    """The most probable label: the word that people (and LLMs) read, its name in Label Studio, and its probability."""
    label = max(probs, key=lambda name: probs[name])
    return {"word": decision.labels.text_of(decision.labels.index(label)), "label": label, "probability": probs[label]}


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
        return f"no: {project.published_version} does not know this task yet; it will once the panel has read it"
    if prediction.text_key != task.text_key:
        return "no: the text was edited after the prediction; a new one follows once the panel has read it"
    if entry is None:
        return "when the task is opened: it is outside the batch, Label Studio asks the backend for it"
    if entry.published_at is None:
        return "soon: the batch is being published"
    return f"yes: published in {project.batch_version}"


def _print_explanation(shown: dict[str, Any]) -> None:
    console.print(shown["text"] or shown["problem"], style="bold", soft_wrap=True, markup=False)
    if shown["text"]:
        for name, decision in shown.get("decisions", {"": shown}).items():
            for line in _opinions(name, decision):
                say(line)
    batch = shown["batch"]
    why = "it is labelled or skipped, so it has no place" if shown["human"] else "not in it"
    say(f"Next batch: {why if batch is None else _placed(batch)}")
    for row in shown["human"]:
        of = f"{row['decision']}: " if "decision" in row else ""
        label = row["label"] or ("skipped" if row["was_cancelled"] or not of else row["problem"])
        who = "Accepted unseen" if row["provenance"] == Provenance.CERTIFIED else f"Human {row['user_id']}"
        say(f"{who}: {of}{label} ({row['provenance']})")
    say(f"Pre-annotation visible: {shown['visible']}")


def _placed(batch: dict[str, Any]) -> str:
    """Where the task stands in the order in which people see the tasks, and why."""
    if batch["place"] <= batch["size"]:
        return f"place {batch['place']} of {batch['size']}. {batch['reason']}"
    behind = batch["place"] - batch["size"]
    return f"not among its {batch['size']}, but place {behind} of the {batch['of'] - batch['size']} behind it. " + str(
        batch["reason"]
    )


def _opinions(name: str, shown: dict[str, Any]) -> Iterator[str]:
    """A line for each LLM, the mixture and the classifier: its word, its label where it is called otherwise, and the
    probability of each label, most probable first."""
    if name:
        yield f"{name}:"
    everyone = [*shown["panel"].items(), ("mixture", shown.get("mixture")), ("classifier", shown.get("classifier"))]
    width = max(len(who) for who, _ in everyone)
    for who, probs in everyone:
        chosen = shown["says"].get(who)
        if chosen is None:
            yield f"  {who:{width}}  {NOT_READ if who in shown['panel'] else 'no opinion yet'}"
            continue
        label = "" if chosen["word"] == chosen["label"] else f" (label {chosen['label']})"
        others = sorted(probs.items(), key=lambda pair: -pair[1])[1:]
        rest = ", ".join(f"{other} {value:.1%}" for other, value in others)
        yield f"  {who:{width}}  {chosen['word']}{label} {chosen['probability']:.1%}; {rest}"
