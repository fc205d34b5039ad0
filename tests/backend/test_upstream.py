"""Each route of upstream's framework, asked as upstream's clients ask: of our own app, and of our class under it."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import redis
from flask.testing import FlaskClient

from mollm_backend.store import Store, projects, versions
from mollm_backend.web import model
from mollm_backend.work import queues

from . import framework
from .conftest import CONFIG, add_texts

BACKEND = Path(__file__).parents[2] / "backend"
TASKS: list[dict[str, Any]] = [
    {"id": 1, "data": {"text": "woof number 0"}, "meta": {}, "is_labeled": False, "project": 7, "predictions": []},
    {"id": 2, "data": {"text": "meow number 1"}, "meta": {}, "is_labeled": False, "project": 7, "predictions": []},
]
EXTRA = [None, "", {}, {"a": 1}, [1, 2], 3, True, '{"a": 1}', "plain words", "{broken", "null"]


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


@pytest.fixture(params=["ours", "framework"])
def client(request: pytest.FixtureRequest, home: Store, monkeypatch: pytest.MonkeyPatch) -> FlaskClient:
    """A client of the app that `backend/_wsgi.py` makes, or of the framework with our class."""
    if request.param == "framework":
        return framework.init_app(framework.model_class(monkeypatch, model.__file__)).test_client()
    monkeypatch.syspath_prepend(str(BACKEND))
    for name in ("_wsgi", "model"):
        monkeypatch.delitem(importlib.sys.modules, name, raising=False)  # type: ignore[attr-defined]
    app = importlib.import_module("_wsgi").init_app(model_class=importlib.import_module("model").NewModel)
    app.config["TESTING"] = True
    return app.test_client()


def predict(client: FlaskClient, project: object, tasks: list[Any]) -> Any:
    params = {"login": None, "password": None, "context": {"result": []}}
    body = {"tasks": tasks, "model_version": "x", "project": project, "label_config": CONFIG, "params": params}
    return client.post("/predict", data=json.dumps(body), content_type="application/json")


def test_it_is_there(client: FlaskClient) -> None:
    answer = client.get("/health")
    assert (answer.status_code, answer.get_json()) == (200, {"status": "UP", "model_class": "Mollm"})
    assert client.get("/").status_code == 200


def test_predict_answers_one_entry_a_task(client: FlaskClient, connection: redis.Redis) -> None:
    answer = predict(client, "7.1768000000", TASKS)
    known, unknown = answer.get_json()["results"]
    assert answer.status_code == 200
    assert known["result"][0]["value"] == {"choices": ["dog"]}
    assert known["model_version"] == "v1+batch-1"
    assert unknown == {}
    assert queues.queue(connection, "reconcile").job_ids == ["reconcile-7"]


def test_a_project_that_is_not_connected_is_told_what_to_do(client: FlaskClient, connection: redis.Redis) -> None:
    """Ours answers 400; the framework has one answer a task. Neither is a traceback, and nothing is queued."""
    answer = predict(client, "99.1768000000", TASKS)
    said = answer.get_json()
    each = said.get("results", [said])
    assert answer.status_code == (200 if "results" in said else 400)
    assert all("99" in row["error"] and "mollm connect" in row["error"] for row in each)
    event = {"action": "ANNOTATION_CREATED", "project": {"id": 99, "label_config": CONFIG}}
    answer = client.post("/webhook", json=event)
    assert answer.status_code in (201, 400)
    assert "mollm connect" in json.dumps(answer.get_json())
    assert queues.queue(connection, "reconcile").job_ids == []


@pytest.mark.parametrize("extra", EXTRA, ids=repr)
@pytest.mark.parametrize("project", ["7", "99"])
def test_setup_takes_any_extra_params(client: FlaskClient, extra: object, project: str) -> None:
    body = {"project": f"{project}.1768000000", "schema": CONFIG, "hostname": "http://ls", "access_token": "t"}
    answer = client.post("/setup", json=body | {"extra_params": extra})
    expected = "v1+batch-1" if project == "7" else "mollm-waiting"
    assert (answer.status_code, answer.get_json()) == (200, {"model_version": expected})


@pytest.mark.parametrize("action", ["ANNOTATION_CREATED", "ANNOTATION_UPDATED", "START_TRAINING", "LABEL_LINK_CREATED"])
def test_every_event_is_taken(client: FlaskClient, connection: redis.Redis, action: str) -> None:
    body = {"action": action, "project": {"id": 7, "label_config": CONFIG}, "annotation": {"id": 1}, "task": {"id": 1}}
    assert client.post("/webhook", json=body).status_code in (200, 201)
    assert queues.training_requested(connection, 7) == (action == "START_TRAINING")


def test_a_hundred_requests_open_nothing_new(client: FlaskClient, connection: redis.Redis) -> None:
    predict(client, "7", TASKS)
    before = psutil.Process().num_fds()
    for _ in range(100):
        assert predict(client, "7", TASKS).status_code == 200
        assert client.post("/setup", json={"project": "7", "schema": CONFIG}).status_code == 200
    assert psutil.Process().num_fds() <= before + 1


@pytest.mark.parametrize("client", ["ours"], indirect=True)
def test_our_app_answers_the_rest(client: FlaskClient, connection: redis.Redis) -> None:
    """Versions, the metrics, and a request that names no project, as in upstream's own test file."""
    assert client.get("/versions").get_json() == {"versions": ["v1"]}
    assert "mollm_tasks" in client.get("/metrics").text
    body = {"tasks": [{"data": {}}, {"data": {"text": "woof number 0"}}], "label_config": "<View></View>"}
    answer = client.post("/predict", data=json.dumps(body), content_type="application/json")
    assert (answer.status_code, answer.get_json()) == (200, {"results": [{}, {}]})


@pytest.mark.parametrize("client", ["ours"], indirect=True)
def test_only_a_client_in_testing_mode_is_logged_in(client: FlaskClient) -> None:
    app = client.application
    app.config["TESTING"] = False
    assert app.test_client().get("/versions").status_code == 401
    app.config["TESTING"] = True
    assert app.test_client().get("/versions").status_code == 200
    assert app.test_client().get("/versions", auth=("mollm", "wrong")).status_code == 401
