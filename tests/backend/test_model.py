"""The model class as the upstream 2.x framework calls it; the framework itself is not on the registry."""

from __future__ import annotations

import importlib
import inspect
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import redis

from mollm_backend import settings
from mollm_backend.store import Store, projects, versions
from mollm_backend.web import model
from mollm_backend.work import queues

from .conftest import CONFIG, add_texts

BACKEND = Path(__file__).parents[2] / "backend"


@pytest.fixture
def home(tmp_path: Path, queue_url: str, store: Store, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("MOLLM_HOME", str(tmp_path))
    monkeypatch.setenv("REDIS_URL", queue_url)
    rows = add_texts(store, 2)
    predicted = [versions.StoredPrediction(1, rows[0].item.text_key, "dog", 0.9, np.array([0.1, 0.9]))]
    versions.save(store, 7, versions.Version("v1", 0, "candidate", 0), predicted)
    versions.publish(store, 7, "v1")
    projects.change(store, 7, batch_version="v1+batch-1")
    return store


TASKS: list[dict[str, Any]] = [
    {"id": 1, "data": {"text": "woof number 0"}},
    {"id": 2, "data": {"text": "meow number 1"}},
]


def test_predict_looks_up_and_queues_what_is_not_known(home: Store, connection: redis.Redis) -> None:
    mollm = model.Mollm(project_id="7", label_config=CONFIG)
    assert mollm.model_version == "v1+batch-1"
    known, unknown = mollm.predict(TASKS, context=None)
    assert known["result"][0]["value"] == {"choices": ["dog"]}
    assert unknown == {}
    assert queues.queue(connection, "reconcile").job_ids == ["reconcile-7"]


def test_fit_nudges_and_the_train_button_asks_for_training(home: Store, connection: redis.Redis) -> None:
    mollm = model.Mollm(project_id="7", label_config=CONFIG)
    event = {"project": {"id": 7}, "annotation": {"id": 1, "task": 1}, "task": {"id": 1}}
    assert mollm.fit("ANNOTATION_CREATED", event, job_id="x") == {"status": "queued"}
    assert not queues.training_requested(connection, 7)
    mollm.fit("START_TRAINING", {"project": {"id": 7}})
    assert queues.training_requested(connection, 7)


def test_a_project_that_is_not_connected_is_answered_what_to_do(home: Store, connection: redis.Redis) -> None:
    """An error that is raised would be a 500 with a traceback under the framework."""
    mollm = model.Mollm(project_id="99.170")
    answers = mollm.predict(TASKS)
    assert len(answers) == 2
    assert all("mollm connect" in answer["error"] for answer in answers)
    assert mollm.model_version == "mollm-waiting"
    refused = mollm.fit("START_TRAINING", {"project": {"id": 99}})
    assert refused["status"] == "refused"
    assert "99" in refused["error"]
    for odd in ("{", "[]", {"project": None}, {}):
        assert mollm.fit("ANNOTATION_CREATED", odd)["status"] == "refused"
    assert not queues.training_requested(connection, 99)
    assert queues.queue(connection, "reconcile").job_ids == []


def test_tasks_that_cannot_be_read_hold_no_others_up(home: Store, connection: redis.Redis) -> None:
    odd: list[Any] = [None, {"id": "x", "data": 3}, {}, TASKS[0]]
    assert [bool(answer) for answer in model.Mollm(project_id="7").predict(odd)] == [False, False, False, True]


def test_a_process_opens_one_store(home: Store, connection: redis.Redis) -> None:
    """The framework makes a model for each request."""
    model.Mollm(project_id="7").predict(TASKS)
    before, opened = psutil.Process().num_fds(), set[int]()
    for _ in range(30):
        mollm = model.Mollm(project_id="7")
        mollm.predict(TASKS[:1])
        opened.add(id(mollm._store))
    assert len(opened) == 1
    assert psutil.Process().num_fds() <= before + 1


@pytest.mark.parametrize("params", [{"a": 1}, '{"a": 1}'], ids=["object", "text"])
def test_extra_params_are_kept_as_text(home: Store, params: Any) -> None:
    mollm = model.Mollm(project_id="7")
    mollm.set_extra_params(params)
    assert mollm.get("extra_params") == '{"a": 1}'


def test_the_living_framework_is_known_by_its_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """With a base class of 2.x's shape installed, ours derives from it; the dead 1.x is left alone."""

    def framework(**members: object) -> type:
        base = type("LabelStudioMLBase", (), members)
        package, inner = types.ModuleType("label_studio_ml"), types.ModuleType("label_studio_ml.model")
        package.__spec__ = importlib.machinery.ModuleSpec("label_studio_ml", None)
        inner.LabelStudioMLBase = base  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "label_studio_ml", package)
        monkeypatch.setitem(sys.modules, "label_studio_ml.model", inner)
        return base

    living = framework(set_extra_params=lambda self, params: None)
    assert model._base() is living
    framework()
    assert model._base() is model.OwnBase


def test_the_signatures_are_those_of_2_x() -> None:
    assert list(inspect.signature(model.OwnBase.__init__).parameters) == ["self", "project_id", "label_config"]
    assert list(inspect.signature(model.Mollm.predict).parameters)[:3] == ["self", "tasks", "context"]
    assert list(inspect.signature(model.Mollm.fit).parameters)[:3] == ["self", "event", "data"]


def test_the_backend_directory_follows_the_convention(home: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BACKEND))
    monkeypatch.delitem(sys.modules, "model", raising=False)
    assert importlib.import_module("model").Mollm is model.Mollm
    assert importlib.import_module("_wsgi").app.url_map.bind("").match("/health")


@pytest.fixture
def wsgi(home: Store, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Label Studio's convention, freshly imported."""
    monkeypatch.syspath_prepend(str(BACKEND))
    monkeypatch.delitem(sys.modules, "_wsgi", raising=False)
    return importlib.import_module("_wsgi")


def test_init_app_makes_an_app_with_the_login_that_is_given(wsgi: Any) -> None:
    app = wsgi.init_app(model_class=model.Mollm, basic_auth_user="ann", basic_auth_pass="open")
    client = app.test_client()
    assert client.get("/health").status_code == 200
    assert client.get("/versions", auth=("ann", "open")).status_code == 200
    assert client.get("/versions", auth=("ann", "shut")).status_code == 401
    assert wsgi.init_app().test_client().get("/versions").status_code == 401


def test_it_says_where_the_login_is_and_never_the_password(wsgi: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = settings.load()
    said = wsgi.where_the_login_is(loaded)
    assert "user mollm" in said
    assert str(settings.password_file(loaded.home)) in said
    assert loaded.basic_auth_password.get_secret_value() not in said
    monkeypatch.setenv("BASIC_AUTH_PASS", "sesame")
    said = wsgi.where_the_login_is(settings.load())
    assert "as you set it" in said
    assert "sesame" not in said


def test_importing_it_makes_no_app(wsgi: Any) -> None:
    assert "app" not in vars(wsgi)
    assert wsgi.app is wsgi.app
    with pytest.raises(AttributeError):
        _ = wsgi.nothing
