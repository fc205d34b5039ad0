"""Label Studio's tasks and annotations: listings, exports, and the Data Manager's actions on them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mollm_backend.labelstudio.errors import LabelStudioError, LabelStudioNotFound
from mollm_backend.labelstudio.transport import JSON, Transport

PAGE = 1000  # tasks on one page of a listing; with it, Label Studio lists about 570 tasks a second
LONG = 1800.0  # seconds: without a queue, Label Studio recounts 1,000 tasks a second during an import or an action
_EXPORT_IDS = 200  # ids in one export call: keeps its address under 4,000 characters
# The fields that `tasks` reads; Label Studio then leaves the others out.
_INCLUDE = "id,data,updated_at,total_annotations,cancelled_annotations"


def numbers(ids: Iterable[int]) -> str:
    """Ids as the Data Manager's filter of annotations takes them."""
    return ",".join(str(number) for number in ids)


@dataclass(frozen=True, slots=True)
class RemoteTask:
    """A task without its annotations; `annotations` is the number of them, skips included."""

    id: int
    data: JSON
    updated_at: str
    annotations: int


class TaskCalls(Transport):
    """The calls about tasks and annotations."""

    def tasks(self, project_id: int, *, since: str = "") -> Iterator[RemoteTask]:
        """All tasks in order of id, or those updated at or after `since` (a time of Label Studio's clock).

        Each page starts after the last id of the page before, so that no task is missed when another is deleted.
        """
        touched = [("updated_at", "greater_or_equal", "Datetime", since)] if since else []
        for row in self.listed(project_id, touched, _INCLUDE):
            count = int(row.get("total_annotations") or 0) + int(row.get("cancelled_annotations") or 0)
            yield RemoteTask(int(row["id"]), row.get("data") or {}, str(row.get("updated_at") or ""), count)

    def listed(
        self, project_id: int, conditions: Sequence[tuple[str, str, str, object]], include: str
    ) -> Iterator[JSON]:
        """All tasks, in order of id, that meet all conditions (column, operator, type, value)."""
        last = 0
        while True:
            wanted = [("id", "greater", "Number", last), *conditions]
            items = [condition(*one) for one in wanted]
            query = {"filters": {"conjunction": "and", "items": items}, "ordering": ["tasks:id"]}
            page = self._raw(
                "list tasks", "GET", "api/tasks/",
                params={"project": project_id, "page": 1, "page_size": PAGE, "fields": "task_only",
                        "include": include, "query": json.dumps(query)},
            )  # fmt: skip
            rows, total = page["tasks"], int(page["total"])
            if not rows and total:
                raise LabelStudioError(f"Label Studio says {total} tasks but lists none: half a page, try again.")
            yield from rows
            if len(rows) >= total:
                return
            last = int(rows[-1]["id"])

    def touched_at(self, project_id: int, annotation_ids: Sequence[int]) -> str:
        """When the last of these annotations' tasks was updated, by Label Studio's clock; "" if none is there."""
        condition = ("annotations_ids", "contains", "String", numbers(annotation_ids))
        return max(
            (str(row["updated_at"]) for row in self.listed(project_id, [condition], "id,updated_at")), default=""
        )

    def task_exists(self, task_id: int) -> bool:
        """Whether Label Studio holds the task. Raises LabelStudioError if that cannot be found out."""
        try:
            self._raw(f"task {task_id}", "GET", f"api/tasks/{task_id}/")
        except LabelStudioNotFound:
            return False
        return True

    def annotations(self, project_id: int, task_ids: Sequence[int]) -> Iterator[tuple[int, list[JSON]]]:
        """Yields (task id, its annotations, skips included) for each of these tasks that has any.

        It reads the JSON export, because only that contains `prediction`, the pre-annotation that was shown.
        """
        for start in range(0, len(task_ids), _EXPORT_IDS):
            chunk = list(task_ids[start : start + _EXPORT_IDS])
            rows = self._raw(
                "export annotations", "GET", f"api/projects/{project_id}/export",
                params={"exportType": "JSON", "ids[]": chunk},
            )  # fmt: skip
            for row in rows:
                yield int(row["id"]), list(row.get("annotations") or [])

    def tasks_with_drafts(self, project_id: int, task_ids: Sequence[int]) -> set[int]:
        """The tasks of these on which a person has begun something that is not submitted."""
        begun = ("draft_exists", "equal", "Boolean", "true")
        rows = self.listed(project_id, [begun, *between(task_ids)], "id")
        return {int(row["id"]) for row in rows} & set(task_ids)

    def last_touch(self, project_id: int, task_ids: Sequence[int]) -> str:
        """When the last of these tasks was touched, by Label Studio's clock; "" where none of them is there."""
        rows = self.listed(project_id, between(task_ids), "id,updated_at")
        wanted = set(task_ids)
        return max((str(row["updated_at"]) for row in rows if int(row["id"]) in wanted), default="")

    def annotate_from(self, project_id: int, version: str, task_ids: Sequence[int]) -> None:
        """Make this version's predictions on these tasks annotations of this token's user, with their
        `parent_prediction`. Leaves out a task that has any annotation; called again, it makes none twice."""
        nothing = [condition(f"{kind}_annotations", "equal", "Number", 0) for kind in ("total", "cancelled")]
        self._act("predictions_to_annotations", project_id, task_ids, nothing, model_version=version)

    def delete_annotations(self, project_id: int, user_id: int, task_ids: Sequence[int], untouched_since: str) -> None:
        """Delete a user's annotations on these tasks, but on none that was touched since, or on which one is begun."""
        still = [condition("updated_at", "less_or_equal", "Datetime", untouched_since),
                 condition("draft_exists", "equal", "Boolean", "false")]  # fmt: skip
        self._act("delete_tasks_annotations", project_id, task_ids, still, annotator=str(user_id))

    def _act(
        self, action: str, project_id: int, task_ids: Sequence[int], conditions: Sequence[JSON], **more: object
    ) -> None:
        """An action of the Data Manager on those of the tasks that meet the conditions."""
        selected = {"all": False, "included": list(task_ids)}
        filters = {"conjunction": "and", "items": list(conditions)} if conditions else None
        self._raw(
            action.replace("_", " "), "POST", "api/dm/actions", params={"id": action, "project": project_id},
            body={"project": str(project_id), "selectedItems": selected, "filters": filters, "ordering": [], **more},
            seconds=LONG,
        )  # fmt: skip

    def annotation_ids(self, task_id: int) -> set[int]:
        """The ids of one task's annotations, skips included, without an export; empty if the task is deleted."""
        try:
            return {int(row["id"]) for row in self._raw("annotations", "GET", f"api/tasks/{task_id}/annotations/")}
        except LabelStudioNotFound:
            return set()


def condition(column: str, operator: str, kind: str, value: object) -> JSON:
    """A condition of the Data Manager's filters on tasks."""
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}


def between(task_ids: Sequence[int]) -> list[tuple[str, str, str, object]]:
    """The conditions that a task's number lies among these; none for no numbers."""
    if not task_ids:
        return []
    return [("id", "greater", "Number", min(task_ids) - 1), ("id", "less", "Number", max(task_ids) + 1)]
