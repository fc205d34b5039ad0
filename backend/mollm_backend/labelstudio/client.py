"""Label Studio's API as plain records: the server and its projects here, the rest in the files `client_*`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from mollm_backend.labelstudio.client_hooks import HookCalls
from mollm_backend.labelstudio.client_predictions import Imported, PredictionCalls
from mollm_backend.labelstudio.client_tasks import LONG, PAGE, RemoteTask, numbers
from mollm_backend.labelstudio.client_views import ViewCalls
from mollm_backend.labelstudio.errors import LabelStudioError, LabelStudioNotFound
from mollm_backend.labelstudio.transport import JSON, ONCE
from mollm_backend.settings import Settings

PROMPT = 10.0  # seconds; an answer from memory, on a busy machine

__all__ = ["Imported", "LabelStudioClient", "RemoteProject", "RemoteTask", "numbers"]


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


class LabelStudioClient(PredictionCalls, HookCalls, ViewCalls):
    """The calls that mollm makes to Label Studio, one method for each."""

    @classmethod
    def of(cls, settings: Settings, url: str = "") -> LabelStudioClient:
        """The client of the Label Studio that is set, or of the one at `url`."""
        return cls(url or settings.label_studio_url, settings.label_studio_api_key.get_secret_value())

    # --- server ------------------------------------------------------------------------------------------------

    def version(self) -> str:
        """The server's release, such as "1.23.2". It is told at once, so a server that hangs is seen by it."""
        return str(self._raw("version", "GET", "api/version/", seconds=PROMPT).get("release", "?"))

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
            body=list(rows), seconds=LONG,
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
