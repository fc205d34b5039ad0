"""Label Studio's predictions: which version a task holds, importing and deleting them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mollm_backend.labelstudio.client_tasks import LONG, TaskCalls, between
from mollm_backend.labelstudio.errors import (
    LabelStudioDown,
    LabelStudioError,
    LabelStudioNotFound,
    LabelStudioRefused,
)
from mollm_backend.labelstudio.transport import JSON


@dataclass(frozen=True, slots=True)
class Imported:
    """The result of an import: how many predictions were created, and (task id, reason) of each that was not."""

    created: int
    refused: tuple[tuple[int, str], ...] = ()


class PredictionCalls(TaskCalls):
    """The calls about predictions."""

    def prediction(self, prediction_id: int) -> JSON | None:
        """One prediction, or None if it does not exist any more."""
        try:
            return dict(self._raw("prediction", "GET", f"api/predictions/{prediction_id}/"))
        except LabelStudioNotFound:
            return None

    def tasks_with_version(self, project_id: int, version: str, among: Sequence[int] = ()) -> set[int]:
        """Ids of the tasks that hold a prediction of this version; only of tasks numbered as `among` are, if given."""
        holds = [("predictions_model_versions", "contains", "List", [version]), *between(among)]
        rows = self.listed(project_id, holds, "id,predictions_model_versions")
        return {int(row["id"]) for row in rows if version in (row.get("predictions_model_versions") or "").split(",")}

    def versions_of(self, project_id: int, task_ids: Sequence[int]) -> dict[int, set[str]]:
        """For each of these tasks, the versions of its predictions; a task without predictions is left out."""
        wanted = set(task_ids)
        if not wanted:
            return {}
        # Label Studio computes this column only if a filter names it.
        having = [*between(task_ids), ("predictions_model_versions", "empty", "List", False)]
        rows = self.listed(project_id, having, "id,predictions_model_versions")
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
                seconds=LONG,
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
        self._raw("delete a version", "DELETE", path, body=body, seconds=LONG)
