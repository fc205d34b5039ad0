"""The store: what is missing is a query, truth is tombstoned, a version is whole or not there."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mollm import states
from mollm.errors import InputError, ModelFileError
from mollm.records import FittedState, HumanLabel, LabelSet, Provenance
from mollm_backend.store import Store, batches, events, labels, projects, revisions, signals, tasks, versions
from mollm_backend.store.decisions import Decision, Source
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.signals import Cost, SignalRow
from mollm_backend.store.tasks import Task
from mollm_backend.work import progress

CAT_DOG = (Decision("label", (Source("text", "text"),), LabelSet(("cat", "dog"))),)
PANEL = (PanelMember("tiny", "f-tiny"), PanelMember("small", "f-small"))


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store(url)
    projects.save(opened, Project(7, "http://ls", "Pets", "2026-01-01", "<View/>", CAT_DOG, PANEL))
    yield opened
    opened.close()


def add_tasks(store: Store, *texts: str) -> None:
    tasks.upsert(store, 7, [Task(n + 1, f"hash-{n}", text) for n, text in enumerate(texts)])


def answer(store: Store, member: PanelMember, *texts: str) -> None:
    rows = [SignalRow(Task(0, "", text).item.text_key, np.array([0.25, 0.75]), np.array([0.0, 1.0])) for text in texts]
    signals.save(store, member, 7, rows, Cost(calls=1, texts=len(rows), prompt_tokens=10, seconds=0.5))


def test_what_is_missing_is_asked_once_a_text_and_annotator(store: Store) -> None:
    add_tasks(store, "meow", "woof", "meow")
    assert [task.task_id for task in signals.missing(store, 7, "f-tiny", 10)] == [3, 2]
    answer(store, PANEL[0], "meow")
    assert [task.task_id for task in signals.missing(store, 7, "f-tiny", 10)] == [2]
    assert [task.task_id for task in signals.missing(store, 7, "f-small", 10)] == [3, 2]
    assert [signals.unanswered(store, 7, member.fingerprint) for member in PANEL] == [1, 3]
    assert progress.count(store, projects.get(store, 7)).answered == 2


def test_signals_come_back_in_the_order_of_the_tasks(store: Store) -> None:
    add_tasks(store, "meow", "woof", "meow")
    answer(store, PANEL[1], "meow")
    loaded = signals.load(store, projects.get(store, 7), tasks.every(store, 7))
    assert loaded.annotators == ("tiny", "small")
    assert loaded.missing.tolist() == [[True, False], [True, True], [True, False]]
    assert loaded.label_probs[2, 1].tolist() == [0.25, 0.75]


def test_an_answer_is_never_replaced_and_its_cost_is_added(store: Store) -> None:
    add_tasks(store, "meow")
    answer(store, PANEL[0], "meow")
    other = SignalRow(Task(0, "", "meow").item.text_key, np.array([1.0, 0.0]), np.array([1.0, 0.0]))
    signals.save(store, PANEL[0], 7, [other], Cost(calls=1, prompt_tokens=5))
    loaded = signals.load(store, projects.get(store, 7), tasks.every(store, 7))
    assert loaded.label_probs[0, 0].tolist() == [0.25, 0.75]
    assert signals.costs(store)["tiny"].prompt_tokens == 15


def test_an_absent_annotator_waits_longer_each_time_until_it_answers(store: Store) -> None:
    add_tasks(store, "meow")
    signals.mark_absent(store, "f-tiny", "server down", first_wait=60)
    before = time.time()
    signals.mark_absent(store, "f-tiny", "server down", first_wait=60)
    absence = signals.absent(store)["f-tiny"]
    assert (absence.reason, absence.attempts) == ("server down", 2)
    assert before + 120 <= absence.retry_at <= time.time() + 120
    answer(store, PANEL[0], "meow")
    assert signals.absent(store) == {}


def test_a_broken_task_is_not_asked_and_a_deleted_one_comes_back(store: Store) -> None:
    tasks.upsert(store, 7, [Task(1, "h", None, "no text"), Task(2, "h", "woof")])
    assert [task.task_id for task in signals.missing(store, 7, "f-tiny", 10)] == [2]
    assert tasks.count(store, 7) == (2, 1)
    tasks.tombstone(store, 7, [2])
    assert [task.task_id for task in tasks.every(store, 7)] == [1]
    tasks.upsert(store, 7, [Task(2, "h", "woof")])
    assert [task.task_id for task in tasks.every(store, 7)] == [1, 2]


def annotation(number: int, label: str | None, **rest: object) -> Annotation:
    values: dict[str, object] = {
        "task_id": 1,
        "user_id": 1,
        "was_cancelled": False,
        "provenance": Provenance.FROM_SCRATCH,
    }
    return Annotation(annotation_id=number, label=label, **(values | rest))  # type: ignore[arg-type]


def test_provenance_once_seen_is_never_lowered(store: Store) -> None:
    add_tasks(store, "meow")
    seen = annotation(
        5, "cat", provenance=Provenance.ACCEPTED, parent_prediction=9, shown_version="v", shown_label="cat"
    )
    labels.upsert(store, 7, [seen])
    labels.upsert(store, 7, [annotation(5, "cat", updated_at="later")])
    assert labels.every(store, 7)[0].provenance is Provenance.ACCEPTED
    labels.upsert(store, 7, [annotation(5, "dog", updated_at="later still")])
    (row,) = labels.every(store, 7)
    assert (row.provenance, row.shown_label, row.label) == (Provenance.EDITED, "cat", "dog")


def test_the_newest_label_of_each_person_counts_and_skips_do_not(store: Store) -> None:
    add_tasks(store, "meow", "woof")
    rows = [
        annotation(1, "cat", updated_at="1"), annotation(2, "dog", updated_at="2"),
        annotation(3, "cat", user_id=2), annotation(4, None, task_id=2, was_cancelled=True),
    ]  # fmt: skip
    labels.upsert(store, 7, rows)
    human = labels.human_labels(labels.every(store, 7))
    assert sorted((row.item, row.annotator, row.label) for row in human) == [("1", "1", "dog"), ("1", "2", "cat")]
    assert labels.closed_tasks(labels.every(store, 7)) == {1, 2}
    assert (labels.count(store, 7), labels.totals(store, 7)) == (2, (4, 2, ""))
    assert labels.how(store, 7) == {"from_scratch": 3}
    labels.tombstone(store, 7, [2])
    assert {row.annotation_id for row in labels.every(store, 7)} == {1, 3, 4}
    assert [row.annotation_id for row in labels.every(store, 7, [2])] == [4]
    labels.upsert(store, 7, [annotation(1, "dog", updated_at="2"), annotation(3, "cat", updated_at="1")])
    tasks.tombstone(store, 7, [2])
    assert labels.totals(store, 7) == (2, 1, "2")


def test_a_batch_is_lengthened_by_what_is_open_and_least_certain(store: Store) -> None:
    add_tasks(store, *"abcdef")
    probs = np.array([0.5, 0.5])
    rows = [
        versions.StoredPrediction(n, "", "cat", 1 - n / 10, probs, decision=key) for n in range(1, 7) for key in "xy"
    ]
    versions.save(store, 7, versions.Version("v", 0, "candidate", 0), rows)
    batches.save(store, 7, "b", [batches.StoredEntry(n, n, "v", "cat", 0.5, "") for n in (1, 2, 3)])
    labels.upsert(store, 7, [annotation(1, "cat", task_id=2), annotation(2, None, task_id=5, was_cancelled=True)])
    tasks.tombstone(store, 7, [3])
    assert batches.open_tasks(store, 7, "b") == {1}
    assert versions.least_certain(store, 7, "v", "b", 10) == [6, 4]
    assert versions.least_certain(store, 7, "v", "", 2) == [6, 4]
    assert versions.least_certain(store, 7, "v", "", 10) == [6, 4, 1]


def test_a_counter_tells_of_what_was_written_and_of_nothing_else(store: Store) -> None:
    subjects = revisions.of_work(7), revisions.of_labels(7), revisions.of_answers("f-tiny")
    before = revisions.read(store, *subjects)
    add_tasks(store, "meow")
    assert revisions.read(store, *subjects) == {**before, subjects[0]: 1 + before.get(subjects[0], 0)}
    answer(store, PANEL[0], "meow")
    signals.mark_absent(store, "f-tiny", "down")
    labels.upsert(store, 7, [annotation(1, "cat")])
    tasks.stamp(store, 7, {1: "later"})
    assert revisions.of_project(store, 7, ["f-tiny"]) == {subjects[0]: 1, subjects[1]: 1, subjects[2]: 2}


def test_the_keys_of_a_training_set_change_with_each_label() -> None:
    cat, dog = HumanLabel("1", "cat", "1"), HumanLabel("1", "dog", "1")
    assert labels.row_keys([cat, dog]) == labels.row_keys([dog, cat])
    assert len(labels.row_keys([cat]) ^ labels.row_keys([dog])) == 2


def test_a_version_is_published_by_moving_one_pointer(store: Store) -> None:
    row = versions.StoredPrediction(1, "key", "cat", 0.9, np.array([0.9, 0.1]), np.array([0.6, 0.4]), ("dog",))
    for number in (1, 2):
        versions.save(store, 7, versions.Version(f"v{number}", number, "candidate", number), [row])
        versions.publish(store, 7, f"v{number}")
    assert [(row.id, row.status) for row in versions.every(store, 7)] == [("v2", "published"), ("v1", "retired")]
    assert projects.get(store, 7).published_version == "v2"
    found = versions.predicted(store, 7, "v2", [1, 99])
    assert found[1].negatives == ("dog",)
    assert np.allclose(found[1].probs, [0.9, 0.1])


def test_a_batch_is_refilled_and_never_rewritten(store: Store) -> None:
    entry = batches.StoredEntry(1, 0, "v1", "cat", 0.9, "they differ")
    batches.save(store, 7, "v1+batch-1", [entry])
    batches.mark_published(store, 7, "v1+batch-1", [1])
    again = batches.StoredEntry(1, 5, "v1", "dog", 0.1, "other")
    batches.save(store, 7, "v1+batch-1", [again, batches.StoredEntry(2, 1, "v1", "dog", 0.5, "refill")])
    batch = batches.entries(store, 7, "v1+batch-1")
    assert [(row.task_id, row.label, row.published_at is not None) for row in batch] == [
        (1, "cat", True),
        (2, "dog", False),
    ]


def test_an_unknown_project_says_what_to_do(store: Store) -> None:
    with pytest.raises(InputError, match="mollm connect"):
        projects.get(store, 8)


def test_states_are_whole_or_refused(tmp_path: Path) -> None:
    state = FittedState("head", {"weights": np.arange(6.0).reshape(2, 3)}, {"labels": ["cat", "dog"]})
    states.save(tmp_path / "v1", {"classifier": state})
    loaded = states.load(tmp_path / "v1")["classifier"]
    assert loaded.kind == "head"
    assert loaded.arrays["weights"].tolist() == [[0, 1, 2], [3, 4, 5]]
    file = tmp_path / "v1" / "classifier.safetensors"
    file.write_bytes(file.read_bytes()[:20])
    with pytest.raises(ModelFileError, match="mollm train"):
        states.load(tmp_path / "v1")
    with pytest.raises(ModelFileError, match="missing"):
        states.load(tmp_path / "v2")


def test_events_are_read_newest_first(store: Store) -> None:
    for line in ("one", "two"):
        events.add(store, "info", line, 7)
    newest = events.newest(store)
    assert [event.line for event in newest] == ["two", "one"]
    assert [event.line for event in events.newest(store, after=newest[1].id)] == ["two"]


def _write_for_ever(url: str) -> None:
    store = Store(url, migrate=False)
    number = 0
    while True:
        number += 1
        rows = [SignalRow(f"key-{number}-{n}", np.array([0.5, 0.5]), np.array([0.5, 0.5])) for n in range(5)]
        signals.save(store, PANEL[0], 7, rows, Cost(calls=1, texts=5))


@pytest.mark.parametrize("seed", range(3))
def test_kill_9_in_the_middle_of_writing_leaves_whole_chunks(store: Store, seed: int) -> None:
    process = multiprocessing.get_context("spawn").Process(
        target=_write_for_ever, args=(store.url.render_as_string(hide_password=False),)
    )
    process.start()
    deadline = time.monotonic() + 600
    while not signals.costs(store) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(float(np.random.default_rng(seed).uniform(0, 0.2)))
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join()
    process.close()
    with store.read() as connection:
        written = connection.exec_driver_sql("SELECT count(*) FROM signals").scalar_one()
    cost = signals.costs(store)["tiny"]
    assert written == cost.texts == 5 * cost.calls > 0
