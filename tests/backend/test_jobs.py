"""What comes next is decided from the store; a training makes a version, a batch and a pointer, once."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import redis

from mollm import states
from mollm.records import Provenance
from mollm_backend import jobs
from mollm_backend.jobs import due, pools
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.settings import Settings
from mollm_backend.store import Store, batches, labels, projects, schema, signals, tasks, versions
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import Project
from mollm_backend.work import queues

from .conftest import PANEL, add_texts


@pytest.fixture
def runtime(settings: Settings, store: Store, connection: redis.Redis) -> Runtime:
    opened = Runtime(settings, store, connection)
    jobs.install(opened)
    return opened


def project(store: Store) -> Project:
    return projects.get(store, 7)


def label(store: Store, *task_ids: int, wrong: bool = False, at: datetime | None = None) -> None:
    """People label tasks (`at`, where the time matters); odd ids are dogs (see add_texts)."""
    said = {n: "cat" if (n % 2 == 0) != wrong else "dog" for n in task_ids}
    moment = at.isoformat() if at else ""
    rows = [
        Annotation(100 + n, n, 1, said[n], False, Provenance.FROM_SCRATCH, created_at=moment, updated_at=moment)
        for n in task_ids
    ]
    labels.upsert(store, 7, rows)


def test_nothing_is_trained_before_the_panel_has_read(runtime: Runtime) -> None:
    assert due.training_reason(runtime.store, project(runtime.store), 10) is None


def test_the_first_version_needs_no_human(runtime: Runtime) -> None:
    add_texts(runtime.store, 40)
    jobs.train(7)
    now = project(runtime.store)
    version = versions.find(runtime.store, 7, now.published_version)
    assert version is not None
    assert (version.round, version.human_labels, version.status) == (0, 0, "published")
    predicted = versions.predicted(runtime.store, 7, version.id)
    right = sum((row.label == "cat") == (row.task_id % 2 == 0) for row in predicted.values())
    assert right >= 30  # the better of the two says 36 in expectation
    batch = batches.entries(runtime.store, 7, now.batch_version or "")
    assert [entry.rank for entry in batch] == list(range(40))
    assert all(entry.reason for entry in batch)
    assert "mixture" in states.load(runtime.settings.versions_dir / "7" / version.id)
    assert due.training_reason(runtime.store, now, 10) is None


def test_a_refit_waits_for_enough_labels_or_for_a_request(runtime: Runtime) -> None:
    add_texts(runtime.store, 40)
    jobs.train(7)
    label(runtime.store, *range(1, 10))
    assert due.training_reason(runtime.store, project(runtime.store), 10) is None
    assert due.training_reason(runtime.store, project(runtime.store), 10, requested=True) is not None
    label(runtime.store, 10)
    assert due.training_reason(runtime.store, project(runtime.store), 10) == "10 human labels are new or changed"


def test_a_few_labels_are_learned_once_people_rest(runtime: Runtime) -> None:
    add_texts(runtime.store, 40)
    jobs.train(7)
    now = datetime.now(UTC)
    with runtime.store.write() as connection:
        connection.execute(schema.versions.update().values(created_at=(now - timedelta(hours=1)).isoformat()))
    label(runtime.store, 1, 2, at=now - timedelta(minutes=30))
    label(runtime.store, 3, at=now - timedelta(minutes=2))
    assert due.training_reason(runtime.store, project(runtime.store), 10) is None, "somebody labels"
    label(runtime.store, 3, at=now - timedelta(minutes=11))
    assert due.training_reason(runtime.store, project(runtime.store), 10) is not None
    jobs.train(7)
    newest = versions.newest(runtime.store, 7)
    assert newest is not None
    assert newest.human_labels == 3
    label(runtime.store, 4, at=now - timedelta(minutes=11))
    assert due.training_reason(runtime.store, project(runtime.store), 10) is None, "the last training was just now"


def test_a_refit_learns_and_its_batch_leaves_out_what_is_labelled(runtime: Runtime) -> None:
    add_texts(runtime.store, 60)
    jobs.train(7)
    label(runtime.store, *range(1, 21))
    queues.request_training(runtime.connection, 7)
    queues.finish_nudges(runtime.connection, 7, queues.nudges(runtime.connection, 7))
    jobs.train(7)
    newest = versions.newest(runtime.store, 7)
    assert newest is not None
    assert (newest.round, newest.human_labels) == (1, 20)
    assert not queues.training_requested(runtime.connection, 7)
    batch = batches.entries(runtime.store, 7, project(runtime.store).batch_version or "")
    assert {entry.task_id for entry in batch} == set(range(21, 61))
    jobs.train(7)  # nothing is new: the same job again does nothing
    assert len(versions.every(runtime.store, 7)) == 2


def test_a_request_waits_for_the_labels_that_were_given_before_it(runtime: Runtime) -> None:
    add_texts(runtime.store, 20)
    jobs.train(7)
    label(runtime.store, 1)
    queues.request_training(runtime.connection, 7)  # another label was given too, and is not taken in yet
    jobs.train(7)
    assert queues.training_requested(runtime.connection, 7)
    label(runtime.store, 2)
    queues.finish_nudges(runtime.connection, 7, queues.nudges(runtime.connection, 7))
    due.sweep_project(runtime, project(runtime.store))
    assert queues.enqueued(runtime.connection, "train", 7)
    jobs.train(7)
    newest = versions.newest(runtime.store, 7)
    assert newest is not None
    assert newest.human_labels == 2
    assert not queues.training_requested(runtime.connection, 7)


def test_an_edited_label_counts_as_changed(runtime: Runtime) -> None:
    add_texts(runtime.store, 40)
    label(runtime.store, *range(1, 6))
    jobs.train(7)
    label(runtime.store, 1, 2, wrong=True)
    assert due.training_reason(runtime.store, project(runtime.store), 4) == "4 human labels are new or changed"


def test_new_and_edited_texts_and_deletions_start_no_training(runtime: Runtime) -> None:
    rows = add_texts(runtime.store, 40)
    jobs.train(7)
    tasks.tombstone(runtime.store, 7, [40])
    assert due.training_reason(runtime.store, project(runtime.store), 10) is None
    tasks.upsert(runtime.store, 7, [replace(rows[0], text=rows[1].text), tasks.Task(99, "h", rows[2].text)])
    assert due.training_reason(runtime.store, project(runtime.store), 10) is None


def test_a_pool_that_has_doubled_is_trained_on(runtime: Runtime) -> None:
    add_texts(runtime.store, 20)
    projects.change(runtime.store, 7, options={"shots": [["woof number 0", "dog"], ["meow number 1", "cat"]]})
    jobs.train(7)
    add_texts(runtime.store, 39)
    assert due.training_reason(runtime.store, project(runtime.store), 10) is None
    add_texts(runtime.store, 40)
    reason = due.training_reason(runtime.store, project(runtime.store), 10)
    assert reason == "the pool has doubled: 40 tasks are read, 20 before"
    jobs.train(7)
    assert due.training_reason(runtime.store, project(runtime.store), 10) is None


def test_an_absent_annotator_does_not_stop_the_others(runtime: Runtime) -> None:
    rows = add_texts(runtime.store, 20)
    tasks.upsert(runtime.store, 7, [*rows, tasks.Task(99, "h", "a new text")])
    assert due.training_reason(runtime.store, project(runtime.store), 10) is None  # both still have to read it
    for member in PANEL:
        signals.mark_absent(runtime.store, member.fingerprint, "down")
    assert due.training_reason(runtime.store, project(runtime.store), 10) == "first version"


def test_a_batch_that_runs_dry_is_lengthened_under_the_same_version(runtime: Runtime) -> None:
    rows = add_texts(runtime.store, 40)
    predicted = [
        versions.StoredPrediction(row.task_id, row.item.text_key, "dog", 0.5 + row.task_id / 100, np.array([0.4, 0.6]))
        for row in rows
    ]
    versions.save(runtime.store, 7, versions.Version("v1", 0, "candidate", 0), predicted)
    entries = [batches.StoredEntry(n, n - 1, "v1", "dog", 0.6, "first") for n in range(1, 7)]
    batches.save(runtime.store, 7, "v1+batch-1", entries)
    batches.mark_published(runtime.store, 7, "v1+batch-1", [entry.task_id for entry in entries])
    versions.publish(runtime.store, 7, "v1")
    projects.change(runtime.store, 7, batch_version="v1+batch-1")
    assert due.publishing_reason(runtime.store, project(runtime.store)) is None
    label(runtime.store, 1, 2, 3)
    assert due.publishing_reason(runtime.store, project(runtime.store)) == "only 3 tasks of the batch are still open"
    jobs._refill(runtime, project(runtime.store))
    batch = batches.entries(runtime.store, 7, "v1+batch-1")
    assert [entry.task_id for entry in batch] == [*range(1, 7), *range(7, 41)]  # the least certain first, at the end


def test_a_job_that_fails_is_told_and_put_off(runtime: Runtime, store: Store) -> None:
    from mollm_backend.store import events

    jobs.annotate(8, "tiny")  # no such project
    assert "mollm connect" in events.newest(store)[0].line
    assert queues.held(runtime.connection, "annotate-8-tiny")


def test_two_trainings_of_a_project_never_run_at_once(runtime: Runtime) -> None:
    add_texts(runtime.store, 10)
    with runtime.training_lock(7) as first:
        assert first
        jobs.train(7)
        assert versions.every(runtime.store, 7) == []
    jobs.train(7)
    assert len(versions.every(runtime.store, 7)) == 1


def test_the_same_work_waits_once(connection: redis.Redis) -> None:
    assert queues.enqueue(connection, "train", "train", 7)
    assert not queues.enqueue(connection, "train", "train", 7)
    assert queues.enqueue(connection, "train", "train", 8)


def test_a_job_that_died_with_its_worker_is_forgotten_and_can_be_queued_again(connection: redis.Redis) -> None:
    from rq import SimpleWorker
    from rq.serializers import JSONSerializer

    queues.enqueue(connection, "train", "train", 7)
    jobs_queue = queues.queue(connection, "train")
    dead = SimpleWorker([jobs_queue], connection=connection, name="here.999999999.1", serializer=JSONSerializer)
    dead.register_birth()
    job, _queue = dead.dequeue_job_and_maintain_ttl(timeout=1)
    dead.prepare_execution(job)
    dead.prepare_job_execution(job)
    assert not queues.enqueue(connection, "train", "train", 7)  # on another host it may still live
    connection.delete(dead.key)  # its row has expired
    assert list(queues.reap(connection)) == ["train-7"]
    assert queues.enqueue(connection, "train", "train", 7)


def test_texts_are_read_although_events_never_cease(connection: redis.Redis) -> None:
    from rq.serializers import JSONSerializer

    from mollm_backend.jobs.worker import Worker

    names = [queues.queue(connection, name) for name in queues.QUEUES]
    worker = Worker(names, connection=connection, name="here.1.1", serializer=JSONSerializer)
    queues.enqueue(connection, "annotate", "annotate", 7, "tiny")
    queues.enqueue(connection, "annotate", "annotate", 7, "small")
    taken = []
    for n in range(6):
        queues.enqueue(connection, "reconcile", "reconcile", n)  # there is always one more
        if n == 1:
            queues.enqueue(connection, "reconcile", "predict", 7)
        if n == 3:
            queues.enqueue(connection, "train", "train", 7)
        job, _queue = worker.dequeue_job_and_maintain_ttl(timeout=1)
        taken.append(job.id)
    assert taken == ["reconcile-0", "annotate-7-tiny", "reconcile-1", "train-7", "predict-7", "annotate-7-small"]


def test_a_pool_leaves_out_the_texts_that_serve_as_examples(runtime: Runtime) -> None:
    add_texts(runtime.store, 4)
    projects.change(runtime.store, 7, options={"shots": [["woof number 0", "dog"]]})
    (pool,) = pools.read_pools(runtime, project(runtime.store))
    assert [task.task_id for task in pool.tasks] == [2, 3, 4]


def test_an_old_batch_is_pruned_once_nobody_can_hold_it_open(runtime: Runtime, connection: redis.Redis) -> None:
    add_texts(runtime.store, 20)
    jobs.train(7)
    label(runtime.store, *range(1, 11))
    queues.request_training(connection, 7)
    first = project(runtime.store).batch_version or ""
    jobs.train(7)
    second = project(runtime.store).batch_version or ""
    for name, days in ((first, 3), (second, 2)):
        with runtime.store.write() as opened:
            at = (datetime.now(UTC) - timedelta(days=days)).isoformat()
            rows = schema.batch_entries
            opened.execute(rows.update().where(rows.c.batch_version == name).values(published_at=at))
    due.sweep_project(runtime, project(runtime.store))
    assert queues.enqueued(connection, "prune", 7)


def test_two_labels_of_one_task_are_one_trial_of_the_accuracy(runtime: Runtime) -> None:
    add_texts(runtime.store, 40)
    label(runtime.store, *range(1, 21))
    second = [
        Annotation(200 + n, n, 2, "cat" if n % 2 == 0 else "dog", False, Provenance.FROM_SCRATCH) for n in range(1, 21)
    ]
    labels.upsert(runtime.store, 7, second)
    jobs.train(7)
    version = versions.newest(runtime.store, 7)
    assert version is not None
    found = version.accuracy["labelled"]
    assert found["n"] == 20, "each task was labelled twice"
    assert found["value"] == version.facts["scores"]["accuracy"]
    assert found["low"] < found["value"] <= found["high"]
