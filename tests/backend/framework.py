"""What Label Studio's `label-studio-ml` 2.x does with a model class, in a few lines: it is not on the registry.

As upstream: a model is made for each request, what it keeps must be text, and what `predict` or `fit` returns is sent
as it is. An error that the model raises stays an error, so that a test sees it.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any, ClassVar

import pytest
from flask import Flask, Response, jsonify, request

TRAINS = ("ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATION_DELETED", "START_TRAINING")


class LabelStudioMLBase:
    """The part of upstream's base class that a model and the framework use."""

    kept: ClassVar[dict[tuple[str, str], str]] = {}

    def __init__(self, project_id: str | None = None, label_config: str | None = None) -> None:
        self.project_id = project_id or ""
        self.given_config = label_config
        if not self.model_version:
            self.set("model_version", "0.0.1")
        self.setup()

    def setup(self) -> None:
        """A model overrides it."""

    def get(self, key: str) -> str | None:
        return self.kept.get((self.project_id, key))

    def set(self, key: str, value: str) -> None:
        if not isinstance(value, str):
            raise ValueError("Value must be a string")
        self.kept[self.project_id, key] = value

    def set_extra_params(self, extra_params: str) -> None:
        self.set("extra_params", extra_params)

    @property
    def model_version(self) -> str | None:
        return self.get("model_version")


def model_class(monkeypatch: pytest.MonkeyPatch, file: str) -> Any:
    """Our model class, from its file, as it is where a 2.x framework is installed."""
    package, inner = types.ModuleType("label_studio_ml"), types.ModuleType("label_studio_ml.model")
    package.__spec__ = importlib.machinery.ModuleSpec("label_studio_ml", None)
    inner.LabelStudioMLBase = LabelStudioMLBase  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "label_studio_ml", package)
    monkeypatch.setitem(sys.modules, "label_studio_ml.model", inner)
    monkeypatch.setattr(LabelStudioMLBase, "kept", {})
    spec = importlib.util.spec_from_file_location("under_the_framework", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Mollm


def init_app(model: Callable[..., Any]) -> Flask:
    """The routes that upstream serves, for this class."""
    app = Flask(__name__)

    @app.post("/predict")
    def predict() -> Response:
        body = request.get_json()
        params = body.get("params", {})
        context = params.pop("context", {})
        made = model(project_id=str(body.get("project")).split(".", 1)[0], label_config=body.get("label_config"))
        return jsonify(results=made.predict(body.get("tasks"), context=context, **params))

    @app.post("/setup")
    def setup() -> Response:
        body = request.get_json()
        made = model(project_id=body.get("project").split(".", 1)[0], label_config=body.get("schema"))
        if body.get("extra_params"):
            made.set_extra_params(body["extra_params"])
        return jsonify(model_version=made.get("model_version"))

    @app.post("/webhook")
    def webhook() -> tuple[Response, int]:
        body = request.get_json()
        event = body.pop("action")
        if event not in TRAINS:
            return jsonify(status="Unknown event"), 200
        made = model(str(body["project"]["id"]), label_config=body["project"]["label_config"])
        return jsonify(result=made.fit(event, body), status="ok"), 201

    @app.get("/")
    @app.get("/health")
    def health() -> Response:
        return jsonify(status="UP", model_class=model.__name__)  # type: ignore[attr-defined]

    return app
