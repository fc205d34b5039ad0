"""The batch never runs dry: 120 tasks come through next-task while no training runs, each pre-annotated by us.

An edited text is served with its own label, and a new task comes into the batch, without a training either.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import redis
from pydantic import SecretStr

from mollm_backend import jobs
from mollm_backend.jobs import due
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.connect import connect
from mollm_backend.settings import Settings
from mollm_backend.store import Store, batches, projects, signals, tasks, versions
from mollm_backend.store.signals import Cost, SignalRow
from mollm_backend.store.tasks import Task
from tests.real_label_studio import RealLabelStudio

from ..backend.conftest import connection, queue_url
from .test_ls_real import batch_of, submit

__all__ = ["connection", "queue_url"]
pytestmark = pytest.mark.label_studio
LABELLED, BATCH = 120, 12
VERSION = "v1+batch-1"


def test_120_tasks_are_served_with_our_pre_annotation_while_training_is_paused(
    store: Store, studio: RealLabelStudio, client: LabelStudioClient, settings: Settings, recorder: Any,
    make_project: Callable[..., tuple[int, list[int]]], connection: redis.Redis,
) -> None:  # fmt: skip
    project, _ids = make_project(LABELLED + 10)
    server = {"label_studio_url": studio.url, "label_studio_api_key": SecretStr(studio.token)}
    runtime = Runtime(settings.model_copy(update=server), store, connection)
    jobs.install(runtime)
    connect(store, client, settings, project, recorder.url, check_order=False)
    small = {"loop": {"batch_size": BATCH, "reserve": BATCH}}
    projects.change(store, project, options=small, published_version="v1", batch_version=VERSION)
    rows = tasks.every(store, project)
    sure = np.random.default_rng(0).uniform(0.5, 1.0, len(rows))
    predicted = [
        versions.StoredPrediction(row.task_id, row.item.text_key, "g", float(p), np.array([0.0, p, 1 - p]))
        for row, p in zip(rows, sure, strict=True)
    ]
    versions.save(store, project, versions.Version("v1", 0, "published", 0), predicted)
    batches.save(store, project, VERSION, batch_of([row.task_id for row in rows[:BATCH]]))
    jobs.publish(project)
    refills = 0
    for n in range(LABELLED):
        task = client.next_task(project)
        assert task is not None
        shown = [row for row in task["predictions"] if row["model_version"] == VERSION]
        assert shown, f"task {task['id']} was served blank"
        assert shown[0]["result"][0]["value"] == {"choices": ["g"]}
        submit(client, task["id"], "g", parent_prediction=shown[0]["id"])
        if n % 3:  # events are coalesced
            continue
        jobs.reconcile(project)
        if due.publishing_reason(store, projects.get(store, project)) is not None:
            refills += 1
            jobs.publish(project)
    assert refills >= 3
    assert client.project(project).model_version == VERSION
    runtime.client().close()


def read(store: Store, project: int, text: str, column: int) -> None:
    """The whole panel says one label of a text: Red, g or Blue."""
    probs = np.full(3, 0.1) + 0.7 * np.eye(3)[column]
    row = SignalRow(Task(0, "", text).text_key, probs, probs)
    for member in projects.get(store, project).panel:
        signals.save(store, member, project, [row], Cost())


def test_an_edited_text_and_a_new_task_are_served_without_a_training(
    store: Store, studio: RealLabelStudio, client: LabelStudioClient, settings: Settings, recorder: Any,
    make_project: Callable[..., tuple[int, list[int]]], connection: redis.Redis,
) -> None:  # fmt: skip
    project, _ids = make_project(8)
    server = {"label_studio_url": studio.url, "label_studio_api_key": SecretStr(studio.token)}
    runtime = Runtime(settings.model_copy(update=server), store, connection)
    jobs.install(runtime)
    connect(store, client, settings, project, recorder.url, check_order=False)
    runtime.refresh_panel(projects.get(store, project))
    for task in tasks.every(store, project):
        read(store, project, task.text or "", task.task_id % 2)
    jobs.train(project)
    jobs.publish(project)
    first = client.next_task(project)
    assert first is not None
    client._raw("data", "PATCH", f"api/tasks/{first['id']}/", body={"data": {"text": "quite another text"}})
    jobs.reconcile(project)
    read(store, project, "quite another text", 2)
    jobs.predict(project)
    jobs.publish(project)
    served = client.next_task(project)
    assert served is not None
    assert served["id"] == first["id"], "at its old place"
    batch = projects.get(store, project).batch_version
    shown = [row["result"][0]["value"] for row in served["predictions"] if row["model_version"] == batch]
    assert shown == [{"choices": ["Blue"]}]
    for row in first["predictions"]:
        assert client.prediction(row["id"]) is not None, "a person may still hold the old one open"

    client.import_tasks(project, [{"text": "a new text"}])
    jobs.reconcile(project)
    read(store, project, "a new text", 2)
    jobs.predict(project)
    for task in tasks.every(store, project):
        if task.text != "a new text":
            submit(client, task.task_id, "g")
    jobs.reconcile(project)
    jobs.publish(project)
    last = client.next_task(project)
    assert last is not None
    assert last["data"] == {"text": "a new text"}
    shown = [row["result"][0]["value"] for row in last["predictions"] if row["model_version"] == batch]
    assert shown == [{"choices": ["Blue"]}]
    assert len(versions.every(store, project)) == 1
    runtime.client().close()
