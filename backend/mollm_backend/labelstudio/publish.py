"""Publishing: put a batch's predictions into Label Studio so that its stream serves exactly that order.

Label Studio serves the lowest score first among predictions whose model_version is the project's own. So a batch is
one version string; it is refilled under the same string, and nothing that is current is ever deleted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mollm.errors import InputError
from mollm.store import Store, labels, projects, tasks, versions
from mollm.store.projects import Project
from mollm.store.versions import StoredEntry
from mollm_backend.labelstudio.client import LabelStudioClient, RemoteProject
from mollm_backend.labelstudio.errors import LabelStudioDown, LabelStudioError, LabelStudioRefused
from mollm_backend.labelstudio.label_config import rank_score, result_of

UNCERTAINTY = "Uncertainty sampling"
PRELABEL_CHUNK = 2000  # rows of one import call; Label Studio recounts its tasks at each
TAB = "mollm: next batch"


@dataclass(frozen=True)
class PublishReport:
    """`created` predictions in this call; `refused` (task id, reason); `lines` for the status page."""

    created: int
    refused: tuple[tuple[int, str], ...] = ()
    lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class OrderCheck:
    """Whether the stream serves the batch's order: what was expected and served first, and why not."""

    served: bool
    reason: str = ""


def publish_batch(store: Store, client: LabelStudioClient, project_id: int, batch_version: str) -> PublishReport:
    """Import the batch's entries that Label Studio does not hold yet, then make the batch current.

    Idempotent, and resumable after a kill at any point: what Label Studio holds of this version is asked first.
    Entries whose task is gone, or whose label is no longer in the config, are refused by name; the others go on.
    Raises LabelStudioError.
    """
    project = projects.get(store, project_id)
    waiting = [row for row in versions.batch(store, project_id, batch_version) if row.published_at is None]
    created, refused = (0, [])  # type: tuple[int, list[tuple[int, str]]]
    if waiting:
        held = client.tasks_with_version(project_id, batch_version)
        versions.mark_published(
            store, project_id, batch_version, [row.task_id for row in waiting if row.task_id in held]
        )
        rows, refused = _batch_rows(store, project, batch_version, [row for row in waiting if row.task_id not in held])
        imported = client.import_predictions(project_id, rows)
        created, refused = imported.created, [*refused, *imported.refused]
        versions.mark_published(store, project_id, batch_version, [row.task_id for row in waiting])
    lines = make_current(client, project_id, batch_version)
    if created:
        lines.insert(0, f"published {created} tasks of the batch {batch_version}")
    lines += [f"task {task_id} was not published: {reason}" for task_id, reason in refused[:5]]
    return PublishReport(created, tuple(refused), tuple(lines))


def _batch_rows(
    store: Store, project: Project, batch_version: str, entries: Sequence[StoredEntry]
) -> tuple[list[dict[str, Any]], list[tuple[int, str]]]:
    """Import rows in the order of the batch, and the entries that cannot be sent."""
    there = tasks.some(store, project.id, [row.task_id for row in entries])
    rows, refused = [], []
    for entry in entries:
        try:
            if entry.task_id not in there:
                raise InputError("the task is not in Label Studio any more")
            result = result_of(project.label_task, entry.label, entry.confidence)
        except InputError as error:
            refused.append((entry.task_id, str(error)))
            continue
        rows.append(
            {"task": entry.task_id, "model_version": batch_version, "score": rank_score(entry.rank), "result": result}
        )
    return rows, refused


def make_current(client: LabelStudioClient, project_id: int, batch_version: str) -> list[str]:
    """Point the project at the batch, only where it does not yet: each PATCH sends an event back to us."""
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
        # Label Studio takes only a version that some prediction carries: nothing of this batch is left.
        return [f"the stream does not serve {batch_version}: {error}"]
    return [f"the stream now serves the batch {batch_version}"] if "model_version" in change else []


def open_entries(store: Store, project_id: int, batch_version: str) -> list[StoredEntry]:
    """The batch's entries that nobody has labelled or skipped, in their order."""
    closed = labels.closed_tasks(labels.every(store, project_id))
    there = {task.task_id for task in tasks.every(store, project_id)}
    entries = versions.batch(store, project_id, batch_version)
    return [row for row in entries if row.task_id in there and row.task_id not in closed]


def self_check(store: Store, client: LabelStudioClient, project_id: int, batch_version: str) -> OrderCheck:
    """Ask the stream for the next task (which it then locks for this token's user) and compare with the batch.

    A task that this user already holds locked comes first whatever the order: it counts if it is in the batch.
    """
    remote = client.project(project_id)
    problem = why_not_served(remote, batch_version)
    if problem:
        return OrderCheck(False, problem)
    expected = [row.task_id for row in open_entries(store, project_id, batch_version)]
    task = client.next_task(project_id)
    if task is None or not expected:
        return OrderCheck(True, "nothing is left to serve")
    served = int(task["id"])
    if served == expected[0] or (task.get("queue") == "Task lock" and served in expected):
        return OrderCheck(True)
    return OrderCheck(False, f"the stream served task {served} ({task.get('queue')}), not {expected[0]}")


def why_not_served(remote: RemoteProject, batch_version: str) -> str:
    if remote.model_version != batch_version:
        return f"the project shows the version {remote.model_version!r}, not the batch {batch_version!r}"
    if remote.sampling != UNCERTAINTY:
        return f"the project's sampling is {remote.sampling!r}, not {UNCERTAINTY!r}"
    if remote.maximum_annotations > 1:
        return f"{remote.maximum_annotations} annotations a task are asked for: half-labelled tasks come first"
    return ""


def tab_fallback(client: LabelStudioClient, project_id: int, batch_version: str) -> str:
    """Make (or move) the Data Manager tab that shows the batch in its order; returns what to tell people."""
    data = {
        "title": TAB,
        "type": "list",
        "target": "tasks",
        "filters": {
            "conjunction": "and",
            "items": [
                {"filter": "filter:tasks:predictions_model_versions", "operator": "contains", "type": "List",
                 "value": batch_version},
                {"filter": "filter:tasks:completed_at", "operator": "empty", "type": "Datetime", "value": True},
            ],
        },
        "ordering": ["tasks:predictions_score"],
    }  # fmt: skip
    mine = next((view for view in client.views(project_id) if (view.get("data") or {}).get("title") == TAB), None)
    if mine is None:
        client.create_view(project_id, data)
    elif mine["data"].get("filters") != data["filters"]:
        client.patch_view(int(mine["id"]), project_id, data)
    return f'the tab "{TAB}" holds the batch in its order: label it with "Label Tasks As Displayed"'


def prelabel(
    store: Store,
    client: LabelStudioClient,
    project_id: int,
    version: str,
    *,
    chunk: int = PRELABEL_CHUNK,
    progress: Callable[[int, int], None] | None = None,
) -> PublishReport:
    """Write the base layer: a version's prediction on every task, chunk by chunk; its score is the confidence.

    Resumable: tasks that hold this version already are left out. `progress(done, total)` after each chunk.
    Raises InputError for an unknown version, LabelStudioError.
    """
    project = projects.get(store, project_id)
    if versions.find(store, project_id, version) is None:
        raise InputError(f"There is no version {version!r} in project {project_id}: see `mollm versions`.")
    held = client.tasks_with_version(project_id, version)
    todo = [task.task_id for task in tasks.every(store, project_id) if task.task_id not in held and not task.problem]
    created, refused = (0, [])  # type: tuple[int, list[tuple[int, str]]]
    for start in range(0, len(todo), chunk):
        rows, bad = _base_rows(store, project, version, todo[start : start + chunk])
        imported = client.import_predictions(project_id, rows)
        created, refused = created + imported.created, [*refused, *bad, *imported.refused]
        if progress is not None:
            progress(min(start + chunk, len(todo)), len(todo))
    lines = [f"pre-labelled {created} tasks with {version} ({len(held)} had it already)"]
    lines += [f"task {task_id} was not pre-labelled: {reason}" for task_id, reason in refused[:5]]
    return PublishReport(created, tuple(refused), tuple(lines))


def _base_rows(
    store: Store, project: Project, version: str, task_ids: Sequence[int]
) -> tuple[list[dict[str, Any]], list[tuple[int, str]]]:
    said = versions.predicted(store, project.id, version, task_ids)
    rows, refused = [], []
    for row in said.values():
        try:
            result = result_of(project.label_task, row.label, row.confidence)
        except InputError as error:
            refused.append((row.task_id, str(error)))
            continue
        rows.append({"task": row.task_id, "model_version": version, "score": row.confidence, "result": result})
    return rows, refused
