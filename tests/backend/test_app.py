"""The protocol as Label Studio speaks it: answered from the store, nothing written, nobody let in without a secret."""

from __future__ import annotations

import json
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import numpy as np
import pytest
import redis
from flask import Flask
from pydantic import SecretStr
from rq.serializers import JSONSerializer

from mollm.errors import ConfigError
from mollm_backend.jobs.worker import Worker
from mollm_backend.settings import Settings, load
from mollm_backend.store import Store, StoreAway, batches, projects, versions
from mollm_backend.web.app import create_app
from mollm_backend.work import progress, queues, workers

from .conftest import CONFIG, add_texts

PAYLOADS = Path(__file__).parent.parent / "payloads"
BASIC = {"Authorization": "Basic " + b64encode(b"mollm:pass").decode()}
HOOK = {"X-Mollm-Secret": "hook"}
EVENT = {"action": "ANNOTATION_CREATED", "project": {"id": 7}, "annotation": {"id": 1, "task": 1}, "task": {"id": 1}}


def predict_body(*texts: str) -> dict[str, object]:
    found = [{"id": n + 1, "data": {"text": text}} for n, text in enumerate(texts)]
    return {"tasks": found, "project": "7.123", "label_config": CONFIG, "params": {}}


def publish_version(store: Store, count: int = 3) -> None:
    rows = add_texts(store, count)
    predicted = [
        versions.StoredPrediction(row.task_id, row.item.text_key, "dog", 0.9, np.array([0.1, 0.9])) for row in rows
    ]
    versions.save(store, 7, versions.Version("v1", 0, "candidate", 0), predicted)
    batches.save(store, 7, "v1+batch-1", [batches.StoredEntry(2, 0, "v1", "dog", 0.9, "they differ")])
    versions.publish(store, 7, "v1")
    projects.change(store, 7, batch_version="v1+batch-1")


def test_health_needs_no_password(app: Flask) -> None:
    answer = app.test_client().get("/health")
    assert (answer.status_code, answer.json["status"]) == (200, "UP")  # type: ignore[index]


@pytest.mark.parametrize(
    "path", ["/", "/setup", "/predict", "/webhook", "/versions", "/metrics", "/status.json", "/projects/7"]
)
@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Basic " + b64encode(b"mollm:wrong").decode()}, {"Authorization": "Token pass"},
     {"X-Mollm-Secret": "wrong"}, {"Authorization": "Basic ###"}, {"X-Mollm-Secret": ""}],
)  # fmt: skip
def test_everything_else_needs_the_right_one(app: Flask, path: str, headers: dict[str, str]) -> None:
    for method in ("get", "post"):
        answer = getattr(app.test_client(), method)(path, headers=headers)
        assert answer.status_code == 401
        assert "hook" not in answer.text


@pytest.mark.parametrize("name", ["basic_auth_password", "webhook_secret"])
def test_an_empty_secret_is_refused_and_never_an_open_door(settings: Settings, tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="empty"):
        create_app(settings.model_copy(update={name: SecretStr("")}))
    load(tmp_path / "home")
    (tmp_path / "home" / "secrets" / name).write_text("\n")
    with pytest.raises(ConfigError, match=f"{name} is empty: remove it"):
        load(tmp_path / "home")


def test_the_webhook_secret_opens_the_webhook_alone(app: Flask) -> None:
    client = app.test_client()
    assert client.post("/webhook", json=EVENT, headers=HOOK).status_code == 201
    assert client.post("/predict", json=predict_body("x"), headers=HOOK).status_code == 401


def test_an_unknown_task_is_answered_with_an_empty_object_and_queued(
    app: Flask, store: Store, connection: redis.Redis
) -> None:
    answer = app.test_client().post("/predict", json=predict_body("woof", "meow"), headers=BASIC)
    assert answer.json == {"results": [{}, {}], "model_version": "mollm-waiting"}
    assert queues.queue(connection, "reconcile").job_ids == ["reconcile-7"]


def test_a_known_task_gets_its_pre_annotation(app: Flask, store: Store, connection: redis.Redis) -> None:
    publish_version(store)
    body = predict_body("woof number 0", "meow number 1", "edited since")
    first, second, third = app.test_client().post("/predict", json=body, headers=BASIC).json["results"]  # type: ignore[index]
    assert first["result"][0]["value"] == {"choices": ["dog"]}
    assert first["result"][0]["from_name"] == "label"
    assert second["score"] < 1e-6  # it is in the batch, and first there
    assert first["score"] == first["result"][0]["score"] == 0.9  # it is not: its score is the confidence
    assert third == {}


def test_setup_returns_exactly_the_version_of_the_stored_predictions(app: Flask, store: Store) -> None:
    publish_version(store)
    body = {
        "project": "7.123",
        "schema": CONFIG,
        "hostname": "http://ls",
        "access_token": "secret",
        "extra_params": None,
    }
    assert app.test_client().post("/setup", json=body, headers=BASIC).json == {"model_version": "v1+batch-1"}
    assert app.test_client().get("/versions", headers=BASIC).json == {"versions": ["v1"]}


def test_a_storm_of_events_leads_to_one_job_and_writes_nothing(
    app: Flask, store: Store, connection: redis.Redis
) -> None:
    before = _content(store)
    client = app.test_client()
    for _ in range(500):
        assert client.post("/webhook", json=EVENT, headers=HOOK).status_code == 201
    assert queues.queue(connection, "reconcile").job_ids == ["reconcile-7"]
    assert queues.nudges(connection, 7) == 500
    assert _content(store) == before


def _content(store: Store) -> list[str]:
    with store.read() as connection:
        return list(connection.connection.driver_connection.iterdump())  # type: ignore[union-attr]


def test_the_train_button_asks_for_training(app: Flask, connection: redis.Redis) -> None:
    body = {"action": "START_TRAINING", "project": {"id": 7}}
    assert app.test_client().post("/webhook", json=body, headers=BASIC).status_code == 201
    assert queues.training_requested(connection, 7)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"tasks": 3}', b'{"project": "x", "tasks": []}', b"\xff\xfe"]
)
@pytest.mark.parametrize("path", ["/predict", "/setup", "/webhook"])
def test_bad_input_is_a_clear_400(app: Flask, path: str, body: bytes) -> None:
    answer = app.test_client().post(path, data=body, headers=BASIC, content_type="application/json")
    assert answer.status_code == 400
    assert answer.json["error"]  # type: ignore[index]
    assert "Traceback" not in answer.text


@pytest.mark.parametrize("path", ["/predict", "/setup", "/webhook"])
def test_what_another_sites_page_may_send_is_refused(app: Flask, connection: redis.Redis, path: str) -> None:
    """A browser adds its cached basic auth to whatever it posts; JSON it sends elsewhere only after it has asked."""
    body = json.dumps({"action": "START_TRAINING", "project": {"id": 7}})
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        answer = app.test_client().post(path, data=body, headers=BASIC, content_type=kind)
        assert (answer.status_code, "application/json" in answer.text) == (400, True)
    for headers in ({"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}):
        answer = app.test_client().post(path, json=json.loads(body), headers=BASIC | headers)
        assert answer.status_code == 403
    assert not queues.training_requested(connection, 7)


@pytest.mark.parametrize("brackets", ["[" * 200_000, '{"a":' * 200_000, '{"project": 7, "tasks": ' + "[" * 200_000])
def test_brackets_without_end_are_a_clear_400(app: Flask, brackets: str) -> None:
    for path in ("/predict", "/setup", "/webhook"):
        answer = app.test_client().post(path, data=brackets, headers=BASIC, content_type="application/json")
        assert answer.status_code == 400
        assert "nested too deeply" in answer.text


def test_ready_says_what_answers(app: Flask, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    client = app.test_client()
    assert client.get("/ready").json == {"store": True, "queue": True, "worker_beat_seconds": None}
    served = [queues.queue(connection, "train")]
    worker = Worker(served, connection=connection, name="elsewhere.0.1.1", serializer=JSONSerializer)
    worker.register_birth()
    worker.beat(connection)
    assert 0 <= client.get("/ready").json["worker_beat_seconds"] < 10  # type: ignore[index]
    monkeypatch.setattr(workers, "last_beat", lost)
    answer = client.get("/ready")
    assert (answer.status_code, answer.json["queue"], answer.json["store"]) == (503, False, True)  # type: ignore[index]
    monkeypatch.setattr(Store, "read", away)
    assert client.get("/ready").json["store"] is False  # type: ignore[index]


def lost(*_args: object) -> None:
    raise redis.ConnectionError("no")


def away(*_args: object) -> None:
    raise StoreAway("no")


def test_an_unknown_project_says_what_to_do(app: Flask) -> None:
    answer = app.test_client().post("/predict", json=predict_body("x") | {"project": "99"}, headers=BASIC)
    assert answer.status_code == 400
    assert "mollm connect" in answer.json["error"]  # type: ignore[index]


def test_a_lost_queue_is_said_and_recovered(
    app: Flask, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_args: object, **_kwargs: object) -> None:
        raise redis.ConnectionError("no")

    with monkeypatch.context() as patch:
        patch.setattr(connection, "pipeline", gone)
        answer = app.test_client().post("/webhook", json=EVENT, headers=HOOK)
        assert answer.status_code == 503
        assert "mollm up" in answer.json["error"]  # type: ignore[index]
    assert app.test_client().post("/webhook", json=EVENT, headers=HOOK).status_code == 201


def test_the_metrics_and_the_status_tell_of_the_project(app: Flask, store: Store, connection: redis.Redis) -> None:
    publish_version(store)
    project = projects.get(store, 7)
    progress.note(connection, project, progress.count(store, project))
    metrics = app.test_client().get("/metrics", headers=BASIC).text
    assert 'mollm_tasks{project="7"} 3.0' in metrics
    state = json.loads(app.test_client().get("/status.json", headers=BASIC).text)
    assert state["projects"][0]["batch"]["open"] == 1


@pytest.mark.parametrize("path", sorted(PAYLOADS.glob("*.json")), ids=lambda path: path.stem)
def test_every_recorded_request_is_answered(app: Flask, path: Path) -> None:
    recorded = json.loads(path.read_text())
    send = getattr(app.test_client(), recorded["method"].lower())
    answer = send(recorded["path"], json=recorded["body"], headers=BASIC)
    if path.stem == "webhook_custom_headers_ANNOTATION_CREATED":  # of project 7, which is ours
        assert answer.status_code == 201
    elif recorded["path"] in ("/predict", "/webhook"):  # the others are not connected here: said by name
        assert answer.status_code == 400
        assert "is not connected: run `mollm connect" in answer.json["error"]
    else:
        assert answer.status_code == 200


def test_the_web_process_imports_neither_torch_nor_transformers(tmp_path: Path) -> None:
    code = (
        "import mollm_backend.web.wsgi, sys; maps = open('/proc/self/maps').read();"
        "assert 'torch' not in maps, 'mapped';"
        "heavy = {'torch', 'transformers', 'label_studio_sdk', 'xgboost'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    environment = {"MOLLM_HOME": str(tmp_path), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
