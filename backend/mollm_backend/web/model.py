"""The model class for Label Studio's own `label-studio-ml` 2.x framework, for teams that already use that.

PyPI has only an old version of the framework, so 2.x is recognised by an attribute. `predict` reads mollm's store and
`fit` queues a job for mollm's worker.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
from functools import cache
from typing import Any

import redis

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

    def set_extra_params(self, extra_params: Any) -> None:
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


@cache
def _store(_process: int, url: str) -> Store:
    """The store of a process (a forked one opens its own): the framework makes a model for each request."""
    return Store(url)


@cache
def _queue(_process: int, url: str) -> redis.Redis:
    return queues.connect(url)


class Mollm(_base()):  # type: ignore[misc]
    """mollm as a 2.x model: `predict(tasks, context)` answers from the store, `fit(event, data)` queues a job.

    What is wrong with a request is answered, not raised: the framework would answer 500 with a traceback.
    """

    def setup(self) -> None:
        """Read the settings, and set `model_version` to the published version of this project."""
        self._settings = settings.load()
        self._store = _store(os.getpid(), self._settings.store_url)
        self.set("model_version", lookup.shown_version(self._project()))

    @property
    def _queue(self) -> redis.Redis:
        return _queue(os.getpid(), self._settings.queue_url)

    def set_extra_params(self, extra_params: Any) -> None:
        """As text, which is what the framework can keep; Label Studio also sends an object."""
        super().set_extra_params(extra_params if isinstance(extra_params, str) else json.dumps(extra_params))

    def _project(self) -> projects.Project | None:
        number = str(self.project_id).split(".", 1)[0]
        return projects.find(self._store, int(number)) if number.isdecimal() else None

    def predict(
        self,
        tasks: list[dict[str, Any]],
        context: dict[str, Any] | None = None,  # noqa: ARG002
        **_kwargs: Any,
    ) -> list[dict[str, Any]]:
        """One prediction for each task, in order; `{}` for a task without one (a reconciliation is then queued).

        In a project that is not connected, each has an `error`: Label Studio then shows nothing.
        """
        project = self._project()
        if project is None:
            return [{"error": _unknown(self.project_id)} for _ in tasks]
        self.set("model_version", lookup.shown_version(project))
        found = lookup.answers(self._store, project, [_asked(task) for task in tasks])
        if any(not answer for answer in found):
            queues.nudge(self._queue, project.id)
        return found

    def fit(self, event: str, data: dict[str, Any] | str, **_kwargs: Any) -> dict[str, Any]:
        """Queue what the event asks for; the worker reconciles and trains. What is refused has an `error`."""
        try:
            parsed = events.parse({**(json.loads(data) if isinstance(data, str) else data), "action": event})
            if parsed.known:
                projects.require(self._store, parsed.project_id)
        except (InputError, ValueError, TypeError) as error:
            return {"status": "refused", "error": str(error)}
        if parsed.start_training:
            queues.request_training(self._queue, parsed.project_id)
        elif parsed.known:
            queues.nudge(self._queue, parsed.project_id)
        return {"status": "queued"}


def _unknown(project_id: object) -> str:
    number = str(project_id).split(".", 1)[0]
    return f"Project {number!r} is not connected: `mollm connect` ties a project to this backend."


def _asked(task: object) -> events.AskedTask:
    """A task as the framework passes it; one that cannot be read has no prediction."""
    (asked,) = events.parse_predict({"project": 1, "tasks": [task]}).tasks
    return asked
