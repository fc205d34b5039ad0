"""What our tabs of the Data Manager show. A filter must be one that Label Studio's page knows, not only its API."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mollm_backend.labelstudio.transport import JSON
from mollm_backend.labelstudio.why import SURE
from mollm_backend.store import Store, audits, reading
from mollm_backend.store.certificates import MARK
from mollm_backend.store.projects import Project
from mollm_backend.store.reading import Run

NEXT = "mollm: next"
DOUBTFUL = "mollm: doubtful"
ACCEPTED = "mollm: accepted"
QUEUED = "mollm: queued"  # the panel has still to read them
FAILED = "mollm: failed"  # they have no text that can be read
MOST = 20  # runs of tasks in a filter: for each line of it Label Studio asks its database twice
_ALL = (
    "id", "inner_id", "completed_at", "total_annotations", "cancelled_annotations", "total_predictions", "annotators",
    "annotations_results", "annotations_ids", "predictions_score", "predictions_model_versions", "predictions_results",
    "file_upload", "storage_filename", "created_at", "updated_at", "updated_by", "avg_lead_time", "draft_exists",
)  # fmt: skip
RESULTS = "tasks:predictions_results"
_WIDE = 420  # pixels: the words of a prediction fit into three lines of a column this wide


@dataclass(frozen=True)
class Tab:
    """A tab as it should be; `columns` are shown beside the fields of the task."""

    title: str
    filters: JSON
    ordering: tuple[str, ...]
    columns: tuple[str, ...]

    @property
    def hidden(self) -> JSON:
        """The columns that are hidden in the list, and beside an open task, where only the text is shown."""
        return {"explore": [f"tasks:{name}" for name in _ALL if name not in self.columns],
                "labeling": [f"tasks:{name}" for name in _ALL]}  # fmt: skip

    @property
    def data(self) -> JSON:
        """As the API takes it."""
        wide = {f"tasks:{name}": _WIDE for name in self.columns if name.endswith("_results")}
        return {"title": self.title, "type": "list", "target": "tasks", "filters": self.filters,
                "ordering": list(self.ordering), "hiddenColumns": self.hidden, "columnsWidth": wide}  # fmt: skip


def wanted(store: Store, project: Project) -> dict[str, Tab]:
    """The tabs that the project should have now, by their titles."""
    blind = shows_nothing_of_some(store, project)
    columns = ("id", "total_annotations", "predictions_model_versions", *(() if blind else ("predictions_results",)))
    unlabelled = _item("completed_at", "empty", "Datetime", True)
    # The score is that of the project's own version alone: what has one is what the stream serves, in its order.
    served = [_item("predictions_score", "empty", "Number", False), unlabelled]
    sure = [_item("predictions_results", "contains", "String", SURE), unlabelled]
    certified = [_item("annotations_results", "contains", "String", MARK)]
    tabs = [
        Tab(NEXT, _and(served), ("tasks:predictions_score",), columns),
        Tab(DOUBTFUL, _and(sure), (RESULTS,), columns),
        Tab(ACCEPTED, _and(certified), ("tasks:id",), ("id", "completed_at", "annotations_results")),
    ]
    found = reading.of_project(store, project)
    for title, runs in ((QUEUED, found.waiting), (FAILED, found.unreadable)):
        if runs:
            tabs.append(Tab(title, _among(runs), ("tasks:id",), ("id", "total_annotations", "created_at")))
    return {tab.title: tab for tab in tabs}


def shows_nothing_of_some(store: Store, project: Project) -> bool:
    """Whether people label some tasks without a pre-annotation: then a list must not show what LLMs say of them.

    A task may have a visible prediction of an earlier batch, or of `mollm prelabel`.
    """
    share = max(float(project.options.get(name, 0.0)) for name in ("blind_share", "audit_share"))
    return share > 0 or audits.newest(store, project.id, status=audits.OPEN) is not None


def _item(column: str, operator: str, kind: str, value: object) -> JSON:
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}


def _and(items: Sequence[JSON]) -> JSON:
    return {"conjunction": "and", "items": list(items)}


def _among(runs: Sequence[Run]) -> JSON:
    """The tasks of the first runs. A list of ids is no filter that the page knows."""
    items = [_item("id", "in", "Number", {"min": first, "max": last}) for first, last in runs[:MOST]]
    return {"conjunction": "or", "items": items}


def default() -> Tab:
    """The page's own first tab, which it makes only while a project has none."""
    shown = ("id", "completed_at", "total_annotations", "cancelled_annotations", "total_predictions", "annotators")
    return Tab("Default", _and([]), (), shown)
