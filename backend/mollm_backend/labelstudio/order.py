"""Test if the label stream serves a batch in its order (this is undocumented), and offer a tab if it does not."""

from __future__ import annotations

from dataclasses import dataclass

from mollm_backend.labelstudio.client import LabelStudioClient, RemoteProject
from mollm_backend.labelstudio.errors import LabelStudioError
from mollm_backend.labelstudio.label_config import rank_score
from mollm_backend.labelstudio.transport import JSON

UNCERTAINTY = "Uncertainty sampling"  # the project setting that serves the lowest prediction score first
TAB = "mollm: next batch"  # the tab's title, by which it is found again
# The smallest project on which the order can be tested: two labels, and the same prediction on every task.
_CONFIG = (
    '<View><Text name="text" value="$text"/><Choices name="label" toName="text">'
    '<Choice value="a"/><Choice value="b"/></Choices></View>'
)
_RESULT = [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": ["a"]}}]
_REHEARSED = (3, 0, 4, 1, 2)  # the order served; a random stream gives it once in 120 times


@dataclass(frozen=True)
class OrderCheck:
    """Whether the stream serves the batch in its order; `reason` says why not, or why it was not tested."""

    served: bool
    reason: str = ""


def rehearse(client: LabelStudioClient) -> OrderCheck:
    """Test the order on this server with five tasks in a temporary project, which is deleted afterwards.

    The user's own project is not used: a task that the stream serves is locked for 24 hours for the user who asked.
    """
    try:
        number = client.create_project("mollm self-check, gone in a moment", _CONFIG)
    except LabelStudioError as error:
        return OrderCheck(True, f"not rehearsed: {error}")
    try:
        return _rehearsed(client, number)
    except LabelStudioError as error:
        return OrderCheck(False, f"the rehearsal failed: {error}")
    finally:
        client.delete_project(number)


def _rehearsed(client: LabelStudioClient, number: int) -> OrderCheck:
    ids = client.import_tasks(number, [{"text": str(n)} for n in range(len(_REHEARSED))])
    order = [ids[n] for n in _REHEARSED]
    rows = [
        {"task": task_id, "model_version": "rehearsal", "score": rank_score(rank), "result": _RESULT}
        for rank, task_id in enumerate(order)
    ]
    client.import_predictions(number, rows)
    client.patch_project(number, model_version="rehearsal", sampling=UNCERTAINTY)
    for expected in order:
        task = client.next_task(number)
        if task is None or task["id"] != expected:
            return OrderCheck(False, "this Label Studio does not serve the lowest score first")
        client.submit(expected, _RESULT)
    return OrderCheck(True)


def why_not_served(remote: RemoteProject, batch_version: str) -> str:
    """The project setting because of which the stream does not serve the batch in order; "" if there is none."""
    if remote.model_version != batch_version:
        return f"the project shows the version {remote.model_version!r}, not the batch {batch_version!r}"
    if remote.sampling != UNCERTAINTY:
        return f"the project's sampling is {remote.sampling!r}, not {UNCERTAINTY!r}"
    if remote.maximum_annotations > 1:
        return f"{remote.maximum_annotations} annotations a task are asked for: half-labelled tasks come first"
    return ""


def tab_fallback(client: LabelStudioClient, project_id: int, batch_version: str) -> str:
    """Create or update the Data Manager tab that shows the batch in its order; returns a line for people."""
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
    put_tab(client, project_id, data)
    return f'the tab "{TAB}" holds the batch in its order: label it with "Label Tasks As Displayed"'


def find_tab(client: LabelStudioClient, project_id: int, title: str) -> JSON | None:
    """The project's Data Manager tab of this title."""
    return next((view for view in client.views(project_id) if (view.get("data") or {}).get("title") == title), None)


def put_tab(client: LabelStudioClient, project_id: int, data: JSON) -> None:
    """Create the tab of this title, or change its filters where they differ."""
    mine = find_tab(client, project_id, data["title"])
    if mine is None:
        client.create_view(project_id, data)
    elif mine["data"].get("filters") != data["filters"]:
        client.patch_view(int(mine["id"]), project_id, data)
