"""A sweep of an idle project costs next to nothing, and each kind of change ends that."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import redis
from typer.testing import CliRunner

from mollm.records import Provenance
from mollm_backend import cli
from mollm_backend.cli import bench_store
from mollm_backend.jobs import due
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.settings import Settings
from mollm_backend.store import Store, batches, changes, labels, projects, signals, tasks, versions
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import PanelMember
from mollm_backend.store.signals import Cost, SignalRow
from mollm_backend.store.tasks import Task
from mollm_backend.store.versions import StoredPrediction, Version
from mollm_backend.work import progress, queues

from .conftest import PANEL, add_texts

PROBS = np.array([0.5, 0.5])
MOST = 5  # statements of an idle sweep
BATCH = "v1+batch-1"


@pytest.fixture
def runtime(settings: Settings, store: Store, connection: redis.Redis) -> Runtime:
    """All is read, labelled in part, trained and published: nothing is due."""
    opened = Runtime(settings, store, connection)
    rows = add_texts(store, 40)
    label(store, 1)
    facts = {
        "panel": [member.fingerprint for member in PANEL], "read": 40, "silent": [],
        "label_rows": sorted(labels.row_keys(labels.human_labels(labels.every(store, 7)))),
        "labels_at": labels.revision(store, 7),
    }  # fmt: skip
    versions.save(
        store, 7, Version("v1", 0, "candidate", 1, facts, changes=changes.newest(store, 7)), predictions(rows)
    )
    versions.publish(store, 7, "v1")
    batches.save(store, 7, BATCH, [batches.StoredEntry(n, n, "v1", "dog", 0.5, "") for n in range(2, 31)])
    batches.mark_published(store, 7, BATCH, range(2, 31))
    projects.change(store, 7, batch_version=BATCH)
    return opened


def predictions(rows: list[Task]) -> list[StoredPrediction]:
    return [StoredPrediction(row.task_id, row.item.text_key, "dog", 0.5, PROBS) for row in rows]


def label(store: Store, task_id: int, at: str = "") -> None:
    row = Annotation(100 + task_id, task_id, 1, "dog", False, Provenance.FROM_SCRATCH, updated_at=at)
    labels.upsert(store, 7, [row])


def counted(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The projects that are counted from now on, one entry each time."""
    found: list[int] = []
    count = progress.count
    monkeypatch.setattr(due, "COUNTING", math.inf)  # however little was written: as soon as it is

    def noted(store: Store, project: projects.Project) -> progress.Progress:
        found.append(project.id)
        return count(store, project)

    due.sweep(runtime)
    monkeypatch.setattr(progress, "count", noted)
    due.sweep(runtime)
    assert found == [], "an idle project is not counted"
    return found


def test_an_idle_sweep_is_a_few_statements_and_queues_nothing(runtime: Runtime, connection: redis.Redis) -> None:
    due.sweep(runtime)
    with bench_store.statements(runtime.store) as told:
        due.sweep(runtime)
    assert len(told) <= MOST, told
    assert all(state["waiting"] == 0 for state in queues.waiting(connection).values())


CHANGES: dict[str, Callable[[Store], object]] = {
    "a new task": lambda store: tasks.upsert(store, 7, [Task(99, "h", "a new text")]),
    "an edited task": lambda store: tasks.upsert(store, 7, [Task(1, "h2", "another text")]),
    "a task that is gone": lambda store: tasks.tombstone(store, 7, [2]),
    "a label": lambda store: label(store, 3),
    "a label that is gone": lambda store: labels.tombstone(store, 7, [101]),
    "an answer": lambda store: signals.save(store, PANEL[0], 7, [SignalRow("key", PROBS, PROBS)], Cost()),
    "an answer for another project": lambda store: signals.save(store, PANEL[0], 8, [], Cost(calls=1)),
    "an absence": lambda store: signals.mark_absent(store, PANEL[0].fingerprint, "down"),
    "predictions of new texts": lambda store: versions.extend(store, 7, "v1", [], 9),
    "files that do not load": lambda store: versions.mark_unreadable(store, 7, "v1", "no"),
    "a version": lambda store: versions.save(store, 7, Version("v2", 1, "refused", 1), []),
    "another published version": lambda store: versions.publish(store, 7, "v0"),
    "a longer batch": lambda store: batches.save(store, 7, BATCH, [batches.StoredEntry(31, 31, "v1", "dog", 0.5, "")]),
    "a batch published": lambda store: batches.mark_published(store, 7, BATCH, [2]),
    "a batch taken away": lambda store: batches.mark_unpublished(store, 7, BATCH),
    "another batch": lambda store: projects.change(store, 7, batch_version="v1+batch-2"),
    "an option": lambda store: projects.change(store, 7, options={"refit_every": 3}),
    "another panel": lambda store: projects.set_panel(store, 7, (PanelMember("tiny", "f-new"),)),
    "another key of a decision": lambda store: projects.rename_decisions(store, 7, {"": "label"}),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_each_change_is_noticed(what: str, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    found = counted(runtime, monkeypatch)
    CHANGES[what](runtime.store)
    due.sweep(runtime)
    assert found == [7]


def test_where_counting_takes_long_new_tasks_are_added_to_what_was_counted(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(due, "LONG", -1.0)
    monkeypatch.setattr(due, "COUNTING", 1e-9)  # the next count may wait for years
    due.sweep(runtime)
    tasks.upsert(runtime.store, 7, [Task(99, "h", "a new text"), Task(98, "h", None, "no text")])
    due.sweep(runtime)
    assert runtime.concluded[7].found == progress.count(runtime.store, projects.get(runtime.store, 7))
    signals.save(runtime.store, PANEL[0], 7, [SignalRow(Task(99, "h", "a new text").text_key, PROBS, PROBS)], Cost())
    tasks.upsert(runtime.store, 7, [Task(100, "h", "another")])
    due.sweep(runtime)
    now = projects.get(runtime.store, 7)
    assert runtime.concluded[7].found == progress.count(runtime.store, now), "answers to the new ones are seen"
    tasks.upsert(runtime.store, 7, [Task(1, "h2", "an edited text")])
    due.sweep(runtime)
    assert runtime.concluded[7].found.left[PANEL[0].fingerprint] == 1, "an edited one waits for the next count"
    label(runtime.store, 3)
    due.sweep(runtime)
    assert runtime.concluded[7].found == progress.count(runtime.store, now), "with a label all is counted"
    monkeypatch.setattr(due, "FEW", 1)
    tasks.upsert(runtime.store, 7, [Task(n, "h", f"text {n}") for n in (101, 102)])
    tasks.upsert(runtime.store, 7, [Task(2, "h2", "edited, too")])
    due.sweep(runtime)
    assert runtime.concluded[7].found == progress.count(runtime.store, now), "after an import all is counted"


def test_answers_are_counted_within_a_share_of_the_time_and_all_else_at_once(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    hour, going = time.time() // due.COUNT_ANEW * due.COUNT_ANEW, time.monotonic
    passed = [0.0]
    monkeypatch.setattr(due.time, "time", lambda: hour + passed[0])
    monkeypatch.setattr(due.time, "monotonic", lambda: going() + passed[0])
    found = counted(runtime, monkeypatch)
    monkeypatch.setattr(due, "COUNTING", 1e-5)  # a count of a millisecond is good for 100 s
    label(runtime.store, 3)
    due.sweep(runtime)
    assert found == [7]
    for _ in range(3):
        CHANGES["an answer"](runtime.store)
        due.sweep(runtime)
    assert found == [7]
    passed[0] = due.COUNT_ANEW - 1
    due.sweep(runtime)
    assert found == [7, 7]


def test_a_change_of_another_project_is_none(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    found = counted(runtime, monkeypatch)
    tasks.upsert(runtime.store, 8, [Task(99, "h", "a new text")])
    projects.change(runtime.store, 7, reconciled_at="2999-02-01T00:00:00+00:00", attention="look")
    due.sweep(runtime)
    assert found == []


def test_a_write_that_was_cut_off_is_none(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    found, before = counted(runtime, monkeypatch), labels.revision(runtime.store, 7)
    rows = [Annotation(500, 5, 1, "dog", False, Provenance.FROM_SCRATCH), replace(_unreadable(), annotation_id=501)]
    with pytest.raises(AttributeError):
        labels.upsert(runtime.store, 7, rows)
    due.sweep(runtime)
    assert (found, labels.revision(runtime.store, 7)) == ([], before)


def _unreadable() -> Annotation:
    return Annotation(1, 5, 1, "dog", False, "nonsense")  # type: ignore[arg-type]


def test_a_request_for_a_training_is_noticed(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    found = counted(runtime, monkeypatch)
    label(runtime.store, 3)
    due.sweep(runtime)
    assert not queues.enqueued(runtime.connection, "train", 7)
    queues.request_training(runtime.connection, 7)
    due.sweep(runtime)
    assert found == [7, 7]
    assert queues.enqueued(runtime.connection, "train", 7)


def test_what_is_due_is_queued_again_after_the_queue_was_lost(runtime: Runtime, connection: redis.Redis) -> None:
    tasks.upsert(runtime.store, 7, [Task(99, "h", "a new text")])
    due.sweep(runtime)
    connection.flushall()
    due.sweep(runtime)
    assert queues.enqueued(connection, "annotate", 7, "tiny")


def test_another_worker_counts_for_itself(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    found = counted(runtime, monkeypatch)
    due.sweep(Runtime(runtime.settings, runtime.store, runtime.connection))
    assert found == [7]


def at(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """So many seconds after now."""
    moment = time.time() + seconds

    class Later(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:
            return datetime.fromtimestamp(moment, UTC)

    monkeypatch.setattr(due, "datetime", Later)
    monkeypatch.setattr(due.time, "time", lambda: moment)


def test_the_full_hour_and_the_end_of_an_absence_are_noticed(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    found = counted(runtime, monkeypatch)
    at(monkeypatch, due.COUNT_ANEW)
    due.sweep(runtime)
    assert found == [7]
    tasks.upsert(runtime.store, 7, [Task(99, "h", "a new text")])
    signals.mark_absent(runtime.store, PANEL[0].fingerprint, "down", first_wait=60.0)
    due.sweep(runtime)
    assert not queues.enqueued(runtime.connection, "annotate", 7, "tiny")
    at(monkeypatch, 61)
    due.sweep(runtime)
    assert queues.enqueued(runtime.connection, "annotate", 7, "tiny")


def test_an_hour_that_is_full_while_it_counts_is_for_the_next_sweep(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, count = counted(runtime, monkeypatch), progress.count

    def slow(store: Store, project: projects.Project) -> progress.Progress:
        at(monkeypatch, due.COUNT_ANEW)
        return count(store, project)

    tasks.upsert(runtime.store, 7, [Task(99, "h", "a new text")])
    monkeypatch.setattr(progress, "count", slow)
    due.sweep(runtime)
    monkeypatch.setattr(progress, "count", count)
    due.sweep(runtime)
    due.sweep(runtime)
    assert found == [7, 7]


def test_people_who_rest_are_noticed(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    half_past = datetime.now(UTC).replace(minute=30, second=0) + timedelta(hours=1)  # after the version
    for task_id in (1, 3):
        label(runtime.store, task_id, half_past.isoformat())
    away = (half_past - datetime.now(UTC)).total_seconds()
    at(monkeypatch, away + 1)
    due.sweep(runtime)
    assert not queues.enqueued(runtime.connection, "train", 7)
    at(monkeypatch, away + timedelta(minutes=11).total_seconds())
    due.sweep(runtime)
    assert queues.enqueued(runtime.connection, "train", 7)


def test_labels_are_read_for_a_training_only_where_they_changed(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, read = projects.get(runtime.store, 7), list[int]()
    every = labels.every
    monkeypatch.setattr(labels, "every", lambda *args: (read.append(1), every(*args))[1])
    assert due.training_reason(runtime.store, project, 2) is None
    assert read == []
    tasks.tombstone(runtime.store, 7, [1])  # takes its label with it
    label(runtime.store, 3)
    assert due.training_reason(runtime.store, project, 2) == "2 human labels are new or changed"
    tasks.upsert(runtime.store, 7, [Task(1, "h", "woof number 0")])  # comes back, and its label with it
    assert due.training_reason(runtime.store, project, 2) is None


def test_a_refill_leaves_out_what_is_gone(runtime: Runtime) -> None:
    tasks.tombstone(runtime.store, 7, [30, 31])
    label(runtime.store, 32)
    assert 30 not in batches.open_tasks(runtime.store, 7, BATCH)
    fresh = due.remaining(runtime.store, projects.get(runtime.store, 7), 100, "why")
    assert [(row.task_id, row.rank, row.reason) for row in fresh] == [
        (task_id, 31 + n, "why") for n, task_id in enumerate(range(33, 41))
    ]


def test_the_benchmark_prints_times_and_slopes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLLM_HOME", str(tmp_path))  # it keeps what it measured there, for `mollm plan`
    done = CliRunner().invoke(cli.app, ["bench", "store", "--rows", "60", "--rows", "120", "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert set(answer["rows"]) == {"60", "120"}
    assert answer["rows"]["120"]["statements of an idle sweep"] <= MOST
    assert set(answer["slope"]) == set(answer["rows"]["60"])
    assert all(value > 0 for row in answer["rows"].values() for value in row.values())


def test_a_stamp_that_is_no_time_stops_nothing(runtime: Runtime) -> None:
    label(runtime.store, 2, at="soon")
    label(runtime.store, 3, at=datetime.now(UTC).isoformat())
    due.sweep_project(runtime, projects.get(runtime.store, 7))
    assert due.training_reason(runtime.store, projects.get(runtime.store, 7), 50) is None, "nobody rests yet"
    assert due.training_reason(runtime.store, projects.get(runtime.store, 7), 2) is not None
