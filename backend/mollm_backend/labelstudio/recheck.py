"""The Data Manager tab that shows people suspect labels again.

The label stream, and "Label Tasks As Displayed" too, leave out every task that has its annotations. A tab shows such
tasks: a person opens one with a click, and its annotations can be edited, or another one added. A task leaves the tab
when somebody has done so. Nothing here changes an annotation.
"""

from __future__ import annotations

from collections.abc import Mapping

from mollm_backend.labelstudio.client import LabelStudioClient, numbers
from mollm_backend.labelstudio.errors import LabelStudioError
from mollm_backend.labelstudio.transport import JSON

TAB = "mollm: recheck"  # the tab's title, by which it is found again
# The columns that a new tab of Label Studio's own page hides in the list, and also beside an open task. A tab that says
# nothing of columns shows all of them, and the text at the far right.
_IN_LIST = (
    "inner_id", "annotations_results", "annotations_ids", "predictions_score", "predictions_model_versions",
    "predictions_results", "file_upload", "storage_filename", "created_at", "updated_at", "updated_by", "avg_lead_time",
    "draft_exists",
)  # fmt: skip
_BESIDE = ("id", "completed_at", "total_annotations", "cancelled_annotations", "total_predictions", "annotators")
_HIDDEN = {
    "explore": [f"tasks:{name}" for name in _IN_LIST],
    "labeling": [f"tasks:{name}" for name in (*_BESIDE, *_IN_LIST)],
}


def show(client: LabelStudioClient, project_id: int, annotations: Mapping[int, int]) -> str:
    """Create the tab, or give it these `annotations` (by task) instead of its former ones; returns a line for people.

    The filter takes annotations, because that one takes many numbers in one line, which people can read in the page.
    Raises LabelStudioError where none of them is there.
    """
    chosen = list(annotations.values())
    touched_at = client.touched_at(project_id, chosen)
    if not touched_at:
        raise LabelStudioError("Label Studio has none of these annotations any more: try again in a minute.")
    items = [
        {"filter": "filter:tasks:annotations_ids", "operator": "contains", "type": "String", "value": numbers(chosen)},
        {"filter": "filter:tasks:updated_at", "operator": "less_or_equal", "type": "Datetime", "value": touched_at},
    ]
    shape = {"type": "list", "target": "tasks", "hiddenColumns": _HIDDEN}
    if not client.views(project_id):  # the page makes its first tab only while there is none
        client.create_view(project_id, {"title": "Default", **shape})
    put_tab(client, project_id, {"title": TAB, **shape, "filters": {"conjunction": "and", "items": items}})
    return f'the tab "{TAB}" of the Data Manager holds {len(chosen)} tasks: click one to look at it again'


def remove(client: LabelStudioClient, project_id: int) -> bool:
    """Delete the tab; False where there is none."""
    mine = find_tab(client, project_id, TAB)
    if mine is not None:
        client.delete_view(int(mine["id"]))
    return mine is not None


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
