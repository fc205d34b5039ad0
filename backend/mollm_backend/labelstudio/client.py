"""Label Studio's API as plain records: server, projects, tasks, annotations, predictions, webhooks, backends, tabs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from mollm_backend.labelstudio.errors import (
    LabelStudioDown,
    LabelStudioError,
    LabelStudioNotFound,
    LabelStudioRefused,
)
from mollm_backend.labelstudio.transport import JSON, ONCE, Transport
from mollm_backend.settings import Settings

PAGE = 1000  # tasks on one page of a listing; with it, Label Studio lists about 570 tasks a second
_EXPORT_IDS = 200  # ids in one export call: keeps its address under 4,000 characters
_IMPORT_SECONDS = 1800.0  # time limit: without a queue, Label Studio recounts 1,000 tasks a second during an import
# The fields that `tasks` reads; Label Studio then leaves the others out.
_INCLUDE = "id,data,updated_at,total_annotations,cancelled_annotations"


def numbers(ids: Iterable[int]) -> str:
    """Ids as the Data Manager's filter of annotations takes them."""
    return ",".join(str(number) for number in ids)


@dataclass(frozen=True, slots=True)
class RemoteProject:
    """A project as Label Studio returns it. `tasks`, `annotations` and `skips` are numbers of them."""

    id: int
    title: str
    created_at: str
    label_config: str
    sampling: str
    model_version: str
    maximum_annotations: int
    tasks: int
    annotations: int
    skips: int
    show_predictions: bool


@dataclass(frozen=True, slots=True)
class RemoteTask:
    """A task without its annotations; `annotations` is the number of them, skips included."""

    id: int
    data: JSON
    updated_at: str
    annotations: int


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import: how many predictions were created, and (task id, reason) of each that was not."""

    created: int
    refused: tuple[tuple[int, str], ...] = ()


class LabelStudioClient(Transport):
    """The calls that mollm makes to Label Studio, one method for each."""

    @classmethod
    def of(cls, settings: Settings, url: str = "") -> LabelStudioClient:
        """The client of the Label Studio that is set, or of the one at `url`."""
        return cls(url or settings.label_studio_url, settings.label_studio_api_key.get_secret_value())

    # --- server ------------------------------------------------------------------------------------------------

    def version(self) -> str:
        """The server's release, such as "1.23.2"."""
        return str(self._raw("version", "GET", "api/version/").get("release", "?"))

    def whoami(self) -> str:
        """The e-mail address of the token's user."""
        return str(self._call("whoami", lambda: self._sdk.users.whoami(request_options=ONCE).email, read=True))

    def clock_skew(self) -> float:
        """How many seconds the server's clock is ahead of ours, from its Date header."""

        def call() -> float:
            send = self._sdk._client_wrapper.httpx_client.request
            response = send("api/version/", method="GET", request_options=ONCE)
            told = parsedate_to_datetime(response.headers["date"])
            return (told - datetime.now(UTC)).total_seconds()

        return self._call("clock", call, read=True)

    def user_count(self) -> int:
        """The number of people in the organization."""
        return len(self._raw("users", "GET", "api/users/"))

    def user_names(self) -> dict[int, str]:
        """What the people of the organization are called, by their id: the first name, else the e-mail address."""
        rows = self._raw("users", "GET", "api/users/")
        return {int(row["id"]): str(row.get("first_name") or row.get("email") or row["id"]) for row in rows}

    # --- projects ----------------------------------------------------------------------------------------------

    def project(self, project_id: int) -> RemoteProject:
        """A project. Raises LabelStudioError if the answer is not a Label Studio project."""
        found = self._raw(f"project {project_id}", "GET", f"api/projects/{project_id}/")
        if not isinstance(found, dict) or not {"id", "created_at"} <= set(found):
            raise LabelStudioError(f"{self.url} answers, but not as a Label Studio does: correct LABEL_STUDIO_URL.")
        return RemoteProject(
            int(found["id"]), str(found.get("title") or ""), str(found["created_at"]), found.get("label_config") or "",
            found.get("sampling") or "", found.get("model_version") or "", int(found.get("maximum_annotations") or 1),
            int(found.get("task_number") or 0), int(found.get("total_annotations_number") or 0),
            int(found.get("skipped_annotations_number") or 0), bool(found.get("show_collab_predictions", True)),
        )  # fmt: skip

    def patch_project(self, project_id: int, **values: Any) -> None:
        """Set fields of a project. Label Studio then sends PROJECT_UPDATED."""
        self._raw(f"patch project {project_id}", "PATCH", f"api/projects/{project_id}/", body=values)

    def find_project(self, words: str) -> int | None:
        """The first project that has these words in its description."""
        found = self._raw("list projects", "GET", "api/projects/", params={"page_size": PAGE})["results"]
        return next((int(row["id"]) for row in found if words in (row.get("description") or "")), None)

    def create_project(self, title: str, config: str, **more: Any) -> int:
        """Make a project; returns its id."""
        body = {"title": title, "label_config": config, **more}
        return int(self._raw("make a project", "POST", "api/projects/", body=body)["id"])

    def delete_project(self, project_id: int) -> None:
        self._gone(f"delete project {project_id}", f"api/projects/{project_id}/")

    def import_tasks(self, project_id: int, rows: Sequence[JSON]) -> list[int]:
        """Import tasks (each its `data`, or a whole task); returns their ids in the same order."""
        answer = self._raw(
            "import tasks", "POST", f"api/projects/{project_id}/import", params={"return_task_ids": True},
            body=list(rows), seconds=_IMPORT_SECONDS,
        )  # fmt: skip
        return [int(task_id) for task_id in answer["task_ids"]]

    def submit(self, task_id: int, result: list[JSON], **more: Any) -> int:
        """Annotate a task as this token's user; returns the annotation's id."""
        body = {"result": result, **more}
        return int(self._raw("annotate", "POST", f"api/tasks/{task_id}/annotations/", body=body)["id"])

    def next_task(self, project_id: int) -> JSON | None:
        """The task that the stream serves this token's user now, and locks for that user; None: no task is left."""
        try:
            found = self._raw("next task", "GET", f"api/projects/{project_id}/next")
        except LabelStudioNotFound:
            return None
        return dict(found)

    # --- tasks and annotations ---------------------------------------------------------------------------------

    def tasks(self, project_id: int, *, since: str = "") -> Iterator[RemoteTask]:
        """All tasks in order of id, or those updated at or after `since` (a time of Label Studio's clock).

        Each page starts after the last id of the page before, so that no task is missed when another is deleted.
        """
        touched = [("updated_at", "greater_or_equal", "Datetime", since)] if since else []
        for row in self._listed(project_id, touched, _INCLUDE):
            count = int(row.get("total_annotations") or 0) + int(row.get("cancelled_annotations") or 0)
            yield RemoteTask(int(row["id"]), row.get("data") or {}, str(row.get("updated_at") or ""), count)

    def _listed(
        self, project_id: int, conditions: Sequence[tuple[str, str, str, object]], include: str
    ) -> Iterator[JSON]:
        """All tasks, in order of id, that meet all conditions (column, operator, type, value)."""
        last = 0
        while True:
            wanted = [("id", "greater", "Number", last), *conditions]
            items = [_condition(*one) for one in wanted]
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
            (str(row["updated_at"]) for row in self._listed(project_id, [condition], "id,updated_at")), default=""
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
        rows = self._listed(project_id, [begun, *_between(task_ids)], "id")
        return {int(row["id"]) for row in rows} & set(task_ids)

    def last_touch(self, project_id: int, task_ids: Sequence[int]) -> str:
        """When the last of these tasks was touched, by Label Studio's clock; "" where none of them is there."""
        rows = self._listed(project_id, _between(task_ids), "id,updated_at")
        wanted = set(task_ids)
        return max((str(row["updated_at"]) for row in rows if int(row["id"]) in wanted), default="")

    def annotate_from(self, project_id: int, version: str, task_ids: Sequence[int]) -> None:
        """Make this version's predictions on these tasks annotations of this token's user, with their
        `parent_prediction`. Leaves out a task that has any annotation; called again, it makes none twice."""
        nothing = [_condition(f"{kind}_annotations", "equal", "Number", 0) for kind in ("total", "cancelled")]
        self._act("predictions_to_annotations", project_id, task_ids, nothing, model_version=version)

    def delete_annotations(self, project_id: int, user_id: int, task_ids: Sequence[int], untouched_since: str) -> None:
        """Delete a user's annotations on these tasks, but on none that was touched since, or on which one is begun."""
        still = [_condition("updated_at", "less_or_equal", "Datetime", untouched_since),
                 _condition("draft_exists", "equal", "Boolean", "false")]  # fmt: skip
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
            seconds=_IMPORT_SECONDS,
        )  # fmt: skip

    def annotation_ids(self, task_id: int) -> set[int]:
        """The ids of one task's annotations, skips included, without an export; empty if the task is deleted."""
        try:
            return {int(row["id"]) for row in self._raw("annotations", "GET", f"api/tasks/{task_id}/annotations/")}
        except LabelStudioNotFound:
            return set()

    # --- predictions -------------------------------------------------------------------------------------------

    def prediction(self, prediction_id: int) -> JSON | None:
        """One prediction, or None if it does not exist any more."""
        try:
            return dict(self._raw("prediction", "GET", f"api/predictions/{prediction_id}/"))
        except LabelStudioNotFound:
            return None

    def tasks_with_version(self, project_id: int, version: str, among: Sequence[int] = ()) -> set[int]:
        """Ids of the tasks that hold a prediction of this version; only of tasks numbered as `among` are, if given."""
        holds = [("predictions_model_versions", "contains", "List", version), *_between(among)]
        rows = self._listed(project_id, holds, "id,predictions_model_versions")
        return {int(row["id"]) for row in rows if version in (row.get("predictions_model_versions") or "").split(",")}

    def versions_of(self, project_id: int, task_ids: Sequence[int]) -> dict[int, set[str]]:
        """For each of these tasks, the versions of its predictions; a task without predictions is left out."""
        wanted = set(task_ids)
        if not wanted:
            return {}
        # Label Studio computes this column only if a filter names it.
        having = [*_between(task_ids), ("predictions_model_versions", "empty", "List", False)]
        rows = self._listed(project_id, having, "id,predictions_model_versions")
        held = {int(row["id"]): row.get("predictions_model_versions") or "" for row in rows}
        return {task: set(held[task].split(",")) for task in sorted(wanted & held.keys()) if held[task]}

    def import_predictions(self, project_id: int, rows: Sequence[JSON]) -> Imported:
        """Import predictions (`task`, `model_version`, `score`, `result`) of one version in one call.

        Label Studio refuses the whole call for one unknown task: such a call is split in two until each bad row is
        alone. It drops a wrong result without an error: if too few were created, a listing shows which are missing.
        """
        rows = list(rows)
        if not rows:
            return Imported(0)
        try:
            answer = self._raw(
                "import predictions", "POST", f"api/projects/{project_id}/import/predictions", body=rows,
                seconds=_IMPORT_SECONDS,
            )  # fmt: skip
        except (LabelStudioRefused, LabelStudioDown, LabelStudioNotFound):
            raise
        except LabelStudioError as error:
            if len(rows) == 1:
                return Imported(0, ((int(rows[0]["task"]), str(error)),))
            half = len(rows) // 2
            first, second = (self.import_predictions(project_id, part) for part in (rows[:half], rows[half:]))
            return Imported(first.created + second.created, first.refused + second.refused)
        created = int(answer["created"])
        if created == len(rows):
            return Imported(created)
        held = self.tasks_with_version(project_id, str(rows[0]["model_version"]))
        missing = [int(row["task"]) for row in rows if int(row["task"]) not in held]
        return Imported(created, tuple((task, "Label Studio dropped its prediction in silence") for task in missing))

    def delete_version(self, project_id: int, version: str) -> None:
        """Delete all predictions of a version. If the project's model_version is this one, it becomes null."""
        path, body = f"api/projects/{project_id}/model-versions/", {"model_version": version}
        self._raw("delete a version", "DELETE", path, body=body, seconds=_IMPORT_SECONDS)

    # --- webhooks, ML backends, views --------------------------------------------------------------------------

    def webhooks(self, project_id: int | None = None) -> list[JSON]:
        """All webhooks, or those of one project."""
        found = self._raw("list webhooks", "GET", "api/webhooks/")
        return [hook for hook in found if project_id is None or hook.get("project") == project_id]

    def create_webhook(self, **values: Any) -> JSON:
        return dict(self._raw("create the webhook", "POST", "api/webhooks/", body=values))

    def patch_webhook(self, webhook_id: int, **values: Any) -> None:
        """Change a webhook. Always give `actions`: Label Studio empties the list if they are left out."""
        self._raw("patch the webhook", "PATCH", f"api/webhooks/{webhook_id}/", body=values)

    def delete_webhook(self, webhook_id: int) -> None:
        self._gone("delete the webhook", f"api/webhooks/{webhook_id}/")

    def ml_backends(self, project_id: int) -> list[JSON]:
        """The project's ML backends. For this call, Label Studio requests /health and /setup of each of them."""
        return list(self._raw("list ML backends", "GET", "api/ml/", params={"project": project_id}))

    def create_ml_backend(self, **values: Any) -> JSON:
        return dict(self._raw("add the ML backend", "POST", "api/ml/", body=values))

    def patch_ml_backend(self, backend_id: int, **values: Any) -> None:
        self._raw("patch the ML backend", "PATCH", f"api/ml/{backend_id}", body=values)

    def delete_ml_backend(self, backend_id: int) -> None:
        self._gone("delete the ML backend", f"api/ml/{backend_id}")

    def views(self, project_id: int) -> list[JSON]:
        """The project's Data Manager tabs."""
        return list(self._raw("list tabs", "GET", "api/dm/views/", params={"project": project_id}))

    def create_view(self, project_id: int, data: JSON) -> JSON:
        body = {"project": project_id, "data": data}
        return dict(self._raw("add the tab", "POST", "api/dm/views/", body=body))

    def patch_view(self, view_id: int, project_id: int, data: JSON) -> None:
        body = {"project": project_id, "data": data}
        self._raw("change the tab", "PATCH", f"api/dm/views/{view_id}/", params={"project": project_id}, body=body)

    def delete_view(self, view_id: int) -> None:
        self._gone("delete the tab", f"api/dm/views/{view_id}/")


def _condition(column: str, operator: str, kind: str, value: object) -> JSON:
    """A condition of the Data Manager's filters on tasks."""
    return {"filter": f"filter:tasks:{column}", "operator": operator, "type": kind, "value": value}


def _between(task_ids: Sequence[int]) -> list[tuple[str, str, str, object]]:
    """The conditions that a task's number lies among these; none for no numbers."""
    if not task_ids:
        return []
    return [("id", "greater", "Number", min(task_ids) - 1), ("id", "less", "Number", max(task_ids) + 1)]
