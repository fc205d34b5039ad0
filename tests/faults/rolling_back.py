"""Two versions of a real project, each with its batch and its layer over all tasks; then `mollm rollback` to the first.

How long until Label Studio shows the first again: its batch in the stream, its pre-annotation on every task. And that
it stays until the project is unpinned.
"""

from __future__ import annotations

import os
import subprocess
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx

from mollm_backend.labelstudio.connect import connect
from mollm_backend.labelstudio.errors import LabelStudioDown
from mollm_backend.labelstudio.prune import prune
from mollm_backend.labelstudio.publish import prelabel
from mollm_backend.store import batches, labels, projects, tasks, versions
from mollm_backend.store.projects import Project

from .installation import Installation, again_if_busy, all_predicted, installation, result, script, until, write_panel

LABELLED = 12


def measure(directory: Path, count: int, *, pruned: bool) -> float:
    """Seconds from the command to the first version's return. `pruned`: its batch had been taken out meanwhile."""
    panel, texts = write_panel(directory, count)
    with installation(directory, panel, MOLLM_REFIT_EVERY=str(LABELLED), MOLLM_CHUNK_TEXTS="256") as there:
        number, ids = there.make_project(texts)
        connect(there.store, there.client, there.settings, number, there.url, check_order=False)
        worker = there.start_worker()
        first = _published(there, number, count, 0)
        for task in ids[:LABELLED]:
            again_if_busy(lambda task=task: there.client.submit(task, result("cow")))  # type: ignore[misc]
        second = _published(there, number, count, LABELLED)
        if pruned:
            there.end(worker)  # it would sweep, prune and publish by itself
            _prune_all(there, number)
            assert there.client.tasks_with_version(number, first.batch_version or "") == set()
            seen = _project(there, number).reconciled_at
            there.start_worker()
            until(lambda: _project(there, number).reconciled_at != seen, 1800)
        before = _shown(there, number, ids, texts)
        assert before == second.batch_version
        started = time.monotonic()
        _say(there, "rollback", str(number), str(first.published_version))
        until(lambda: there.client.project(number).model_version == first.batch_version, 1800, every=0.1)
        seconds = time.monotonic() - started
        assert _shown(there, number, ids, texts) == first.batch_version
        _check(there, number, first, ids)
        _hold(there, number, first, ids)
        return seconds


def _say(there: Installation, *words: str) -> None:
    environment = os.environ | dict(there.environment)
    done = subprocess.run(
        script("mollm_backend.cli", *words), env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def _hold(there: Installation, number: int, first: Project, ids: list[int]) -> None:
    """New labels make a version, which stays a candidate until the project is unpinned."""
    for task in ids[LABELLED : 2 * LABELLED]:
        again_if_busy(lambda task=task: there.client.submit(task, result("cow")))  # type: ignore[misc]

    def held() -> str:
        rows = versions.every(there.store, number, 1)
        return rows[0].id if rows[0].status == "candidate" and batches.newest(there.store, number, rows[0].id) else ""

    until(lambda: bool(held()), 1800)
    time.sleep(10)  # a publication that came over the pin would come within these
    assert there.client.project(number).model_version == first.batch_version
    assert _project(there, number).published_version == first.published_version
    candidate = held()
    _say(there, "unpin", str(number))
    assert _project(there, number).published_version == candidate
    until(lambda: there.client.project(number).model_version == _project(there, number).batch_version, 1800)


def _project(there: Installation, number: int) -> Project:
    return projects.get(there.store, number)


def _published(there: Installation, number: int, count: int, human: int) -> Project:
    """Wait for a version of `human` labels that has predicted all and that the stream serves; write its layer over
    all tasks."""

    def ready() -> bool:
        project = _project(there, number)
        version = versions.find(there.store, number, project.published_version)
        if version is None or version.human_labels != human or not all_predicted(there.store, number):
            return False
        return there.client.project(number).model_version == project.batch_version

    until(ready, 1800, every=0.5)
    project = _project(there, number)
    version = project.published_version or ""
    again_if_busy(lambda: prelabel(there.store, there.client, number, version))
    assert len(there.client.tasks_with_version(number, version)) == count
    return project


def _prune_all(there: Installation, number: int) -> None:
    """What a day does: everything that is not current goes out of Label Studio (a locked database is tried again)."""
    for _ in range(60):
        with suppress(LabelStudioDown):
            prune(there.store, there.client, number, at=datetime.now(UTC) + timedelta(hours=25))
            return
        time.sleep(1)
    raise TimeoutError("Label Studio never let the old batches go")


def _shown(there: Installation, number: int, ids: list[int], texts: list[str]) -> str:
    """The version that the backend answers with for a task that is opened, and the label is that version's."""
    user = (there.settings.basic_auth_user, there.settings.basic_auth_password.get_secret_value())
    body = {"tasks": [{"id": ids[-1], "data": {"text": texts[-1]}}], "project": f"{number}.1"}
    answer = httpx.post(f"{there.url}/predict", json=body, auth=user, timeout=30, trust_env=False).json()
    project = _project(there, number)
    said = versions.predicted(there.store, number, project.published_version or "", [ids[-1]])[ids[-1]]
    assert answer["results"][0]["result"][0]["value"]["choices"] == [said.label]
    assert abs(answer["results"][0]["result"][0]["score"] - said.confidence) < 1e-3
    return str(answer["model_version"])


def _check(there: Installation, number: int, first: Project, ids: list[int]) -> None:
    """Every task holds the first version's pre-annotation, and the stream serves the first version's batch."""
    assert there.client.tasks_with_version(number, first.published_version or "") == set(ids)
    closed = labels.closed_tasks(labels.every(there.store, number))
    order = [row.task_id for row in batches.entries(there.store, number, first.batch_version or "")]
    held = there.client.tasks_with_version(number, first.batch_version or "")
    assert held == set(order)
    task = there.client.next_task(number)
    assert task is not None
    assert task["id"] == next(task_id for task_id in order if task_id not in closed)
    assert {row["model_version"] for row in task["predictions"]} == {first.batch_version}
    assert tasks.count(there.store, number)[0] == len(ids)
