"""Publishing: put a batch's predictions into Label Studio so that its stream serves them in exactly that order.

Label Studio serves the lowest score first among predictions whose model_version is the project's own. So a batch has
one version string, also for tasks that are added later, and its scores are places, not confidences (`rank_score`).
Predictions of the current batch are never deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mollm.errors import InputError
from mollm.records import digest
from mollm_backend.labelstudio import tab_shapes, tabs, why
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.errors import LabelStudioDown, LabelStudioError, LabelStudioRefused
from mollm_backend.labelstudio.label_config import joint, rank_score
from mollm_backend.labelstudio.order import UNCERTAINTY, why_not_served
from mollm_backend.store import Store, audits, batches, projects, tasks, versions
from mollm_backend.store.batches import StoredEntry
from mollm_backend.store.projects import Project
from mollm_backend.store.versions import StoredPrediction

PRELABEL_CHUNK = 10_000  # rows of one import: at each, Label Studio recounts all tasks that have predictions


@dataclass(frozen=True)
class PublishReport:
    """`created`: the number of new predictions; `refused`: (task id, reason); `lines` for the status page."""

    created: int
    refused: tuple[tuple[int, str], ...] = ()
    lines: tuple[str, ...] = ()


def publish_batch(store: Store, client: LabelStudioClient, project_id: int, batch_version: str) -> PublishReport:
    """Import the batch's entries that Label Studio does not hold yet, then make the batch current.

    It can be called again, also after a kill: it first lists what Label Studio holds of this version. An entry whose
    task is deleted, or whose label is no longer in the config, is reported in `refused`; the others are imported.
    Raises LabelStudioError.
    """
    project = projects.get(store, project_id)
    waiting = [row for row in batches.entries(store, project_id, batch_version) if row.published_at is None]
    created, refused = 0, list[tuple[int, str]]()
    if waiting:
        held = client.tasks_with_version(project_id, batch_version)
        batches.mark_published(
            store, project_id, batch_version, [row.task_id for row in waiting if row.task_id in held]
        )
        rows, refused = _batch_rows(store, project, batch_version, [row for row in waiting if row.task_id not in held])
        imported = client.import_predictions(project_id, rows)
        created, refused = imported.created, [*refused, *imported.refused]
        batches.mark_published(store, project_id, batch_version, [row.task_id for row in waiting])
    lines = make_current(client, project_id, batch_version)
    if created or lines:
        lines += _fallback(store, client, project, batch_version)
    if created:
        lines.insert(0, f"Label Studio has {created} more tasks in order: the batch {batch_version} and its reserve")
    lines += [f"task {task_id} was not published: {reason}" for task_id, reason in refused[:5]]
    return PublishReport(created, tuple(refused), tuple(lines))


def _fallback(store: Store, client: LabelStudioClient, project: Project, batch_version: str) -> list[str]:
    """If the stream does not serve the batch in order, name the tab that does; returns the lines for people."""
    order = project.connection.get("order") or {}
    reason = why_not_served(client.project(project.id), batch_version)
    if order.get("served") is False:
        reason = str(order.get("reason"))
    if not reason:
        return []
    more = tabs.keep(store, client, project.id, make="tabs" not in project.connection)
    return [
        f'{reason}; the tab "{tab_shapes.NEXT}" holds the batch in its order: "Label Tasks As Displayed" there',
        *more,
    ]


def is_blind(project: Project, batch_version: str, task_id: int) -> bool:
    """Whether a task is shown without a pre-annotation, to measure how strongly pre-annotations influence people.

    A hash of batch and task decides, so that each call gives the same answer; `blind_share` (an option) is the share.
    """
    share = float(project.options.get("blind_share", 0.0))
    return int(digest(batch_version, str(task_id))[:8], 16) < share * 16**8


def as_people_see(store: Store, project: Project, entries: Sequence[StoredEntry]) -> list[StoredEntry]:
    """The current batch's entries, with nothing of those that are shown without a pre-annotation, for whatever."""
    apart, batch = audits.set_aside(store, project.id), project.batch_version or ""
    return [
        row.masked() if row.blind or row.task_id in apart or is_blind(project, batch, row.task_id) else row
        for row in entries
    ]


def _batch_rows(
    store: Store, project: Project, batch_version: str, entries: Sequence[StoredEntry]
) -> tuple[list[dict[str, Any]], list[tuple[int, str]]]:
    """The rows to import, in the order of the batch, and (task id, reason) of entries that cannot be imported."""
    there = tasks.some(store, project.id, [row.task_id for row in entries])
    predicted, apart = _predicted(store, project, entries), audits.set_aside(store, project.id)
    said = why.panel_says(store, project, [row.task_id for row in entries])
    rows, refused = [], []
    for entry in entries:
        try:
            if entry.task_id not in there:
                raise InputError("the task is not in Label Studio any more")
            blind = entry.blind or entry.task_id in apart or is_blind(project, batch_version, entry.task_id)
            # A blind task is served at its rank like the others, but no label is shown.
            shown = predicted[entry.task_id]
            result = [] if blind else why.result(project, shown, entry.reason, said[entry.task_id])
        except InputError as error:
            refused.append((entry.task_id, str(error)))
            continue
        rows.append(
            {"task": entry.task_id, "model_version": batch_version, "score": rank_score(entry.rank), "result": result}
        )
    return rows, refused


def _predicted(
    store: Store, project: Project, entries: Sequence[StoredEntry]
) -> dict[int, dict[str, tuple[str, float]]]:
    """Label and confidence of each entry, by decision: an entry holds its own where there is only one."""
    if len(project.decisions) == 1:
        key = project.decision.key
        return {entry.task_id: {key: (entry.label, entry.confidence)} for entry in entries}
    found: dict[int, dict[str, tuple[str, float]]] = {entry.task_id: {} for entry in entries}
    for version in {entry.version for entry in entries}:
        mine = [entry.task_id for entry in entries if entry.version == version]
        for task_id, rows in versions.of_tasks(store, project.id, version, mine).items():
            found[task_id] = _asked(project, rows)
    return found


def _asked(project: Project, rows: Mapping[str, StoredPrediction]) -> dict[str, tuple[str, float]]:
    keys = {decision.key for decision in project.decisions}
    return {key: (row.label, row.confidence) for key, row in rows.items() if key in keys}


def make_current(client: LabelStudioClient, project_id: int, batch_version: str) -> list[str]:
    """Make the project show the batch; returns lines. Sends only changes: each PATCH sends an event back to us."""
    remote = client.project(project_id)
    wanted = {"model_version": batch_version, "sampling": UNCERTAINTY, "show_collab_predictions": True}
    have = {"model_version": remote.model_version, "sampling": remote.sampling,
            "show_collab_predictions": remote.show_predictions}  # fmt: skip
    change = {key: value for key, value in wanted.items() if have[key] != value}
    if not change:
        return []
    try:
        client.patch_project(project_id, **change)
    except (LabelStudioDown, LabelStudioRefused):
        raise
    except LabelStudioError as error:
        # Label Studio accepts only a version that some prediction has: no prediction of this batch is left.
        return [f"the stream does not serve {batch_version}: {error}"]
    return [f"the stream now serves the batch {batch_version}"] if "model_version" in change else []


def prelabel(
    store: Store,
    client: LabelStudioClient,
    project_id: int,
    version: str,
    *,
    chunk: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PublishReport:
    """Write the base layer: a version's prediction on every task, in chunks; its score is the confidence.

    It can be called again: tasks that hold this version are left out. `progress(done, total)` is called after each
    chunk. Without `chunk`, a chunk is 10,000 tasks or a fifth of all, whichever is more: each import takes longer, the
    more was imported before. Raises InputError for an unknown version, LabelStudioError.
    """
    project = projects.get(store, project_id)
    if versions.find(store, project_id, version) is None:
        raise InputError(f"There is no version {version!r} in project {project_id}: see `mollm versions {project_id}`.")
    held = client.tasks_with_version(project_id, version)
    left_out = held | audits.set_aside(store, project_id)
    todo = [task_id for task_id in tasks.readable_ids(store, project_id) if task_id not in left_out]
    created, unknown, refused = 0, 0, list[tuple[int, str]]()
    if progress is not None:
        progress(0, len(todo))
    chunk = chunk or max(PRELABEL_CHUNK, len(todo) // 5)
    for start in range(0, len(todo), chunk):
        part = todo[start : start + chunk]
        rows, bad = _base_rows(store, project, version, part)
        imported = client.import_predictions(project_id, rows)
        created, unknown = created + imported.created, unknown + len(part) - len(rows) - len(bad)
        refused += [*bad, *imported.refused]
        if progress is not None:
            progress(start + len(part), len(todo))
    lines = [f"pre-labelled {created} tasks with {version} ({len(held)} had it already)"]
    if unknown:
        lines.append(
            f"{unknown} tasks have no prediction of {version} yet: run this again once the panel has read them"
        )
    lines += [f"task {task_id} was not pre-labelled: {reason}" for task_id, reason in refused[:5]]
    return PublishReport(created, tuple(refused), tuple(lines))


def _base_rows(
    store: Store, project: Project, version: str, task_ids: Sequence[int]
) -> tuple[list[dict[str, Any]], list[tuple[int, str]]]:
    rows, refused = [], []
    for task_id, found in versions.of_tasks(store, project.id, version, task_ids).items():
        predicted = _asked(project, found)
        try:
            result = why.result(project, predicted)
        except InputError as error:
            refused.append((task_id, str(error)))
            continue
        score = joint(project.decisions, predicted)
        rows.append({"task": task_id, "model_version": version, "score": score, "result": result})
    return rows, refused
