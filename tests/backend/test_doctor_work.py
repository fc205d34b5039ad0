"""What `mollm doctor` says of the work: worker, failing jobs, annotators that are away, and the reading."""

from __future__ import annotations

import pytest
import redis
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from mollm_backend.doctor import work
from mollm_backend.doctor.finding import Finding
from mollm_backend.settings import Settings
from mollm_backend.store import Store, events, projects, signals, tasks
from mollm_backend.store.tasks import Task
from mollm_backend.work import queues, workers
from tests.backend.conftest import add_texts


def found(store: Store, settings: Settings) -> dict[str, Finding]:
    return {row.name: row for row in work.examine(store, settings, projects.every(store))}


def test_no_queue_and_no_worker_are_said(
    store: Store, settings: Settings, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    nowhere = settings.model_copy(update={"redis_url": "unix:///nowhere.sock"})
    assert set(found(store, nowhere)) == {"no-queue"}
    assert "no-worker" in found(store, settings)
    jobs = queues.queue(connection, "train")
    worker = SimpleWorker([jobs], connection=connection, name=workers.worker_name(), serializer=JSONSerializer)
    worker.register_birth()
    assert "no-worker" not in found(store, settings)
    monkeypatch.setattr(workers, "alive", lambda connection, name: False)  # its process is gone, its row is not yet
    assert "no-worker" in found(store, settings)


def test_a_job_that_fails_is_said_until_it_is_done_or_we_are_started_again(
    store: Store, settings: Settings, connection: redis.Redis
) -> None:
    identity, other = queues.job_id("reconcile", 7), queues.job_id("reconcile", 73)
    for _time in range(2):
        queues.hold(connection, identity)
    queues.hold(connection, other)
    events.add(store, "problem", "reconcile: LABEL_STUDIO_URL is not set", 7)
    events.add(store, "problem", "train: something else", 7)
    finding = found(store, settings)["job-failed"]
    assert "2 times" in finding.line
    assert "LABEL_STUDIO_URL is not set" in finding.line
    queues.release_all(connection)
    assert not queues.held(connection, identity)
    assert "job-failed" not in found(store, settings)


def test_who_is_away_and_how_far_the_reading_is(store: Store, settings: Settings) -> None:
    project = projects.every(store)[0]
    assert "no tasks yet" in found(store, settings)["reading"].line
    add_texts(store, 4)
    assert "the panel has read all; no version yet" in found(store, settings)["reading"].line
    tasks.upsert(store, 7, [Task(5, "hash-5", "moo")])
    assert "tiny has 1 answers to give" in found(store, settings)["reading"].line
    signals.mark_absent(store, project.panel[0].fingerprint, "its server is down.")
    assert "its server is down" in found(store, settings)["annotator-away"].line
    projects.change(store, project.id, connected=False)
    assert "reading" not in found(store, settings)
