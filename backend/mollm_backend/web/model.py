"""The model class for Label Studio's own `label-studio-ml` 2.x framework, for teams that already use that.

PyPI has only an old version of the framework, so 2.x is recognised by an attribute. `predict` reads mollm's store and
`fit` queues a job for mollm's worker.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
from typing import Any

from mollm.errors import InputError
from mollm_backend import settings
from mollm_backend.labelstudio import events
from mollm_backend.store import Store, projects
from mollm_backend.web import lookup
from mollm_backend.work import queues


class OwnBase:
    """The part of the 2.x base class that our model needs, for use without the framework."""

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        self.project_id = project_id or ""
        self.label_config = label_config
        self._values: dict[str, str] = {}
        self.setup()

    def setup(self) -> None:
        """Called once when the model is created."""

    def get(self, key: str) -> str | None:
        return self._values.get(key)

    def set(self, key: str, value: str) -> None:
        self._values[key] = value

    def set_extra_params(self, extra_params: str) -> None:
        self.set("extra_params", extra_params)

    @property
    def model_version(self) -> str | None:
        return self.get("model_version")


def _base() -> Any:
    """The framework's base class if a 2.x version is installed, else our own."""
    if importlib.util.find_spec("label_studio_ml") is None:
        return OwnBase
    base = getattr(importlib.import_module("label_studio_ml.model"), "LabelStudioMLBase", None)
    return base if hasattr(base, "set_extra_params") else OwnBase


class Mollm(_base()):  # type: ignore[misc]
    """mollm as a 2.x model: `predict(tasks, context)` answers from the store, `fit(event, data)` queues a job."""

    def setup(self) -> None:
        """Read the settings, and set `model_version` to the published version of this project."""
        self._settings = settings.load()
        self._store = Store(self._settings.store_url)
        self.set("model_version", lookup.shown_version(self._project()))

    def _project(self) -> projects.Project | None:
        number = str(self.project_id).split(".", 1)[0]
        return projects.find(self._store, int(number)) if number.isdecimal() else None

    def predict(
        self,
        tasks: list[dict[str, Any]],
        context: dict[str, Any] | None = None,  # noqa: ARG002
        **_kwargs: Any,
    ) -> list[dict[str, Any]]:
        """One prediction for each task, in order; `{}` for a task without one (a reconciliation is then queued)."""
        project = self._project()
        if project is None:
            raise InputError(f"Project {self.project_id!r} is not connected: run `mollm connect`.")
        self.set("model_version", lookup.shown_version(project))
        asked = [events.AskedTask(int(task.get("id") or 0), dict(task.get("data") or {})) for task in tasks]
        found = lookup.answers(self._store, project, asked)
        if any(not answer for answer in found):
            queues.nudge(queues.connect(self._settings.queue_url), project.id)
        return found

    def fit(self, event: str, data: dict[str, Any] | str, **_kwargs: Any) -> dict[str, Any]:
        """Queue what the event asks for; the worker reconciles and trains."""
        body = json.loads(data) if isinstance(data, str) else dict(data)
        parsed = events.parse({**body, "action": event})
        connection = queues.connect(self._settings.queue_url)
        if parsed.start_training:
            queues.request_training(connection, parsed.project_id)
        elif parsed.known:
            queues.nudge(connection, parsed.project_id)
        return {"status": "queued"}
