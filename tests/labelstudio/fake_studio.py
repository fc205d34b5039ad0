"""An in-memory Label Studio, as much of it as reconciliation reads: for histories too long for the real one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

from mollm_backend.labelstudio.client import RemoteProject, RemoteTask

CONFIG = (
    '<View><Text name="text" value="$text"/><Choices name="label" toName="text">'
    '<Choice value="A"/><Choice value="B"/><Choice value="C"/></Choices></View>'
)


class FakeStudio:
    """Truth is in `data` and `annotations`; `die_after` calls the process that asks is dead (None: never)."""

    url = "http://studio.test"

    def __init__(self, n: int) -> None:
        self.clock = 0
        self.number = 1000
        self.label_config = CONFIG
        self.asked = 1  # annotations a task
        self.created_at = "2026-01-01T00:00:00Z"
        self.data: dict[int, dict[str, Any]] = {}
        self.stamps: dict[int, str] = {}
        self.annotations_of: dict[int, dict[int, dict[str, Any]]] = {}
        self.predictions: dict[int, dict[str, Any]] = {}
        self.tabs: dict[int, dict[str, Any]] = {}
        self.listed = 0
        self.die_after: int | None = None
        for i in range(n):
            self.add_task(f"text {i}")

    # --- what people do

    def tick(self) -> str:
        self.clock += 1
        return f"2026-01-02T{self.clock // 3600:02}:{self.clock // 60 % 60:02}:{self.clock % 60:02}.000000Z"

    def new_id(self) -> int:
        self.number += 1
        return self.number

    def add_task(self, text: str) -> int:
        task = self.new_id()
        self.data[task], self.annotations_of[task] = {"text": text}, {}
        self.stamps[task] = self.tick()
        return task

    def edit_task(self, task: int, text: str) -> None:
        self.data[task] = {"text": text}
        self.stamps[task] = self.tick()

    def delete_task(self, task: int) -> None:
        del self.data[task], self.annotations_of[task], self.stamps[task]

    def predict(self, task: int, label: str) -> int:
        number = self.new_id()
        self.predictions[number] = {"id": number, "task": task, "model_version": "b1", "result": result(label)}
        return number

    def annotate(self, task: int, label: str | None, person: int = 1, parent: int | None = None) -> int:
        number, at = self.new_id(), self.tick()
        self.annotations_of[task][number] = {
            "id": number, "task": task, "completed_by": person, "result": result(label) if label else [],
            "was_cancelled": label is None, "parent_prediction": parent, "created_at": at, "updated_at": at,
            "prediction": self.predictions.get(parent or 0) or {}, "lead_time": 1.0, "updated_by": person,
        }  # fmt: skip
        self.stamps[task] = at
        return number

    def edit(self, task: int, number: int, label: str) -> None:
        at = self.tick()
        self.annotations_of[task][number] |= {"result": result(label), "was_cancelled": False, "updated_at": at}
        self.stamps[task] = at

    def delete(self, task: int, number: int) -> None:
        del self.annotations_of[task][number]
        self.stamps[task] = self.tick()

    def every(self) -> dict[int, dict[str, Any]]:
        return {number: row for rows in self.annotations_of.values() for number, row in rows.items()}

    # --- what the client asks

    def _call(self) -> None:
        if self.die_after is not None:
            self.die_after -= 1
            if self.die_after < 0:
                raise KeyboardInterrupt

    def project(self, project_id: int) -> RemoteProject:
        self._call()
        rows = self.every().values()
        skips = sum(row["was_cancelled"] for row in rows)
        return RemoteProject(
            project_id, "fake", self.created_at, self.label_config, "", "", self.asked, len(self.data),
            len(rows) - skips, skips, True,
        )  # fmt: skip

    def tasks(self, project_id: int, *, since: str = "") -> Iterator[RemoteTask]:
        for task in sorted(self.data):
            self._call()
            if self.stamps[task] >= since.replace("+00:00", "Z"):
                self.listed += 1
                yield RemoteTask(task, self.data[task], self.stamps[task], len(self.annotations_of[task]))

    def task_exists(self, task_id: int) -> bool:
        self._call()
        return task_id in self.data

    def annotations(self, project_id: int, task_ids: Sequence[int]) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        for task in task_ids:
            self._call()
            if self.annotations_of.get(task):
                yield task, list(self.annotations_of[task].values())

    def annotation_ids(self, task_id: int) -> set[int]:
        self._call()
        return set(self.annotations_of.get(task_id, {}))

    def prediction(self, prediction_id: int) -> dict[str, Any] | None:
        self._call()
        return self.predictions.get(prediction_id)

    def user_names(self) -> dict[int, str]:
        return {row["completed_by"]: f"Person {row['completed_by']}" for row in self.every().values()}

    def touched_at(self, project_id: int, annotation_ids: Sequence[int]) -> str:
        return max((self.stamps[row["task"]] for n, row in self.every().items() if n in annotation_ids), default="")

    # Tabs as the real server treats them: it keeps filters and order apart from the rest, and gives back only those
    # that are set; a change without filters, or without an order, leaves them as they are; the rest is replaced.

    def views(self, project_id: int) -> list[dict[str, Any]]:
        self._call()
        return [{"id": number, "data": deepcopy(data)} for number, data in self.tabs.items()]

    def create_view(self, project_id: int, data: dict[str, Any]) -> dict[str, Any]:
        self._call()
        number = self.new_id()
        self.tabs[number] = {key: value for key, value in deepcopy(data).items() if key != "ordering" or value}
        return {"id": number, "data": deepcopy(self.tabs[number])}

    def patch_view(self, view_id: int, project_id: int, data: dict[str, Any]) -> None:
        self._call()
        apart = {key: self.tabs[view_id][key] for key in ("filters", "ordering") if key in self.tabs[view_id]}
        given = {key: value for key, value in deepcopy(data).items() if key not in apart or value}
        self.tabs[view_id] = apart | given

    def delete_view(self, view_id: int) -> None:
        self._call()
        self.tabs.pop(view_id, None)

    def close(self) -> None:
        pass


def result(label: str) -> list[dict[str, Any]]:
    return [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}]
