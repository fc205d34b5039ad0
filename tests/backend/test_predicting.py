"""New, edited and newly answered texts are predicted from the saved state; no training, no walk over the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from rq.serializers import JSONSerializer

from mollm import states
from mollm.annotators import Answer
from mollm.records import FittedState, FloatArray, Provenance
from mollm.round import run
from mollm_backend import jobs
from mollm_backend.jobs import due, predicting, reading, training
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.jobs.worker import Worker
from mollm_backend.labelstudio.events import AskedTask
from mollm_backend.settings import Settings
from mollm_backend.store import Store, batches, changes, events, labels, projects, signals, tasks, versions
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.signals import Cost, SignalRow
from mollm_backend.store.tasks import Task
from mollm_backend.store.versions import Version
from mollm_backend.web import lookup
from mollm_backend.work import queues

from .conftest import PANEL, add_texts

N = 40
CAT, DOG = np.array([0.8, 0.2]), np.array([0.2, 0.8])


@pytest.fixture
def runtime(settings: Settings, store: Store, connection: redis.Redis) -> Runtime:
    """A worker of a project whose first version knows 40 tasks."""
    opened = Runtime(settings, store, connection)
    jobs.install(opened)
    add_texts(store, N)
    jobs.train(7)
    return opened


def project(store: Store) -> Project:
    return projects.get(store, 7)


def version(store: Store) -> Version:
    found = versions.find(store, 7, project(store).published_version)
    assert found is not None
    return found


def read(store: Store, text: str, probs: FloatArray, *members: PanelMember) -> None:
    """Some of the panel (none named: all) read a text."""
    for member in members or PANEL:
        signals.save(store, member, 7, [SignalRow(Task(0, "", text).text_key, probs, probs)], Cost(texts=1))


def told(store: Store) -> dict[int, versions.StoredPrediction]:
    return versions.predicted(store, 7, version(store).id)


def annotate(store: Store, *task_ids: int) -> None:
    rows = [Annotation(100 + n, n, 1, "cat" if n % 2 == 0 else "dog", False, Provenance.FROM_SCRATCH) for n in task_ids]
    labels.upsert(store, 7, rows)


def test_a_new_text_is_predicted_by_the_version_that_is_there(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, loaded = runtime.store, list[int]()
    assert due.predicting_reason(store, project(store)) is None
    tasks.upsert(store, 7, [Task(41, "h", "a new text")])
    jobs.predict(7)
    assert 41 not in told(store)
    assert due.predicting_reason(store, project(store)) is None, "until somebody has read it"
    read(store, "a new text", CAT)
    due.sweep_project(runtime, project(store))
    assert [queues.enqueued(runtime.connection, name, 7) for name in ("predict", "train")] == [True, False]
    before, load = told(store), signals.load

    def counting(store: Store, project: Project, rows: Sequence[Task], *more: Any) -> Any:
        loaded.append(len(rows))
        return load(store, project, rows, *more)

    monkeypatch.setattr(signals, "load", counting)
    jobs.predict(7)
    assert loaded == [1], "whatever the number of tasks"
    assert told(store)[41].label == "cat"
    assert {number: row.probs.tolist() for number, row in before.items()} == {
        number: row.probs.tolist() for number, row in told(store).items() if number != 41
    }
    assert len(versions.every(store, 7)) == 1
    assert due.predicting_reason(store, project(store)) is None
    assert "1 new or changed tasks are predicted" in events.newest(store)[0].line
    asked = [AskedTask(41, {"text": "a new text"}), AskedTask(41, {"text": "another text"})]
    served, unknown = lookup.answers(store, project(store), asked)
    assert (served["result"][0]["value"], unknown) == ({"choices": ["cat"]}, {})


def test_a_task_that_comes_in_the_middle_of_a_reading_is_predicted_by_the_job_that_reads_it(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = runtime.store
    tasks.upsert(store, 7, [Task(n, "h", f"one of many {n}") for n in range(100, 160)])
    seen = list[set[int]]()

    class Reader:
        asks_along = False

        def annotate(self, texts: Sequence[str]) -> list[Answer]:
            seen.append({number for number in told(store) if number >= 100})
            if len(seen) == 1:
                tasks.upsert(store, 7, [Task(999, "h", "the new one")])
            return [Answer(CAT, CAT)] * len(texts)

    monkeypatch.setattr(Runtime, "annotator", lambda *_args: Reader())
    monkeypatch.setattr(reading, "LOOK_SECONDS", 0.0)
    before = version(store).changes
    jobs.annotate(7, PANEL[0].name)
    newest = set(range(160 - reading.FEWEST, 160))
    assert seen == [set(), newest], "a reading that begins with the newest tasks predicts these, too"
    assert {number for number in told(store) if number >= 100} == {999, *newest}
    assert version(store).changes == before, "what has changed before them keeps its turn"
    jobs.predict(7)
    assert version(store).changes > before


def test_the_worker_predicts_what_its_sweep_finds(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    store = runtime.store
    monkeypatch.setattr(Worker, "runtime", runtime, raising=False)
    tasks.upsert(store, 7, [Task(41, "h", "a new text")])
    read(store, "a new text", CAT)
    projects.change(store, 7, batch_version=None)  # no Label Studio to publish to
    due.sweep_project(runtime, project(store))
    names = [queues.queue(runtime.connection, name) for name in queues.QUEUES]
    worker = Worker(names, connection=runtime.connection, name="here.1.1", serializer=JSONSerializer)
    worker.work(burst=True)
    assert told(store)[41].label == "cat"
    assert len(versions.every(store, 7)) == 1


def test_a_text_is_predicted_again_with_each_further_answer(runtime: Runtime) -> None:
    store = runtime.store
    tasks.upsert(store, 7, [Task(41, "h", "a new text")])
    read(store, "a new text", CAT, PANEL[0])
    jobs.predict(7)
    one = told(store)[41]
    read(store, "a new text", CAT, PANEL[1])
    assert due.predicting_reason(store, project(store)) is not None
    jobs.predict(7)
    both = told(store)[41]
    assert (one.label, both.label) == ("cat", "cat")
    assert both.confidence > one.confidence


def test_a_newer_task_does_not_wait_for_all_that_changed_before(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = runtime.store
    monkeypatch.setattr(predicting, "CHUNK", 2)
    monkeypatch.setattr(predicting, "SECONDS", 0.0)
    for n in range(10, 20):
        tasks.upsert(store, 7, [Task(n, "h", f"text {n}, edited")])  # a change each
        read(store, f"text {n}, edited", CAT)
    tasks.upsert(store, 7, [Task(41, "h", "a new text")])
    read(store, "a new text", CAT)
    jobs.predict(7)
    assert 41 in told(store)
    assert due.predicting_reason(store, project(store)) is not None, "the others go on in their order"
    for _ in range(10):
        jobs.predict(7)
    assert due.predicting_reason(store, project(store)) is None


def test_many_texts_are_predicted_in_chunks(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predicting, "CHUNK", 2)
    tasks.upsert(runtime.store, 7, [Task(100 + n, "h", f"meow number {n % 5} of them") for n in range(10)])
    for n in range(5):
        read(runtime.store, f"meow number {n} of them", CAT)
    jobs.predict(7)
    assert set(told(runtime.store)) == {*range(1, N + 1), *range(100, 110)}
    monkeypatch.setattr(predicting, "SECONDS", -1.0)  # each job ends after its first chunk
    tasks.upsert(runtime.store, 7, [Task(200 + n, f"h{n}", f"meow number {n}") for n in (1, 3)])
    tasks.upsert(runtime.store, 7, [Task(300 + n, f"h{n}", f"meow number {n}") for n in (5, 7)])
    for left in (True, False):
        jobs.predict(7)
        assert (due.predicting_reason(runtime.store, project(runtime.store)) is not None) == left


def test_texts_that_serve_as_examples_are_not_predicted(runtime: Runtime) -> None:
    projects.change(runtime.store, 7, options={"shots": [["meow number 1", "cat"]]})
    tasks.upsert(runtime.store, 7, [Task(41, "h", "meow number 1")])
    jobs.predict(7)
    assert 41 not in told(runtime.store)
    assert due.predicting_reason(runtime.store, project(runtime.store)) is None


def test_a_new_task_comes_into_the_batch_that_runs_dry(runtime: Runtime) -> None:
    store, batch = runtime.store, project(runtime.store).batch_version or ""
    everything = [entry.task_id for entry in batches.entries(store, 7, batch)]
    batches.mark_published(store, 7, batch, everything)
    annotate(store, *range(1, N + 1))
    tasks.upsert(store, 7, [Task(41, "h", "a new text")])
    read(store, "a new text", CAT)
    jobs.predict(7)
    jobs._refill(runtime, project(store))
    assert [entry.task_id for entry in batches.entries(store, 7, batch)] == [*everything, 41]


def edit(store: Store, task_id: int, text: str, probs: FloatArray) -> None:
    task = tasks.some(store, 7, [task_id])[task_id]
    tasks.upsert(store, 7, [replace(task, text=text)])
    read(store, text, probs)


def test_a_batch_that_shows_an_edited_task_is_made_anew(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    store, first = runtime.store, project(runtime.store).batch_version or ""
    entries = batches.entries(store, 7, first)
    batches.mark_published(store, 7, first, [entry.task_id for entry in entries])
    annotate(store, entries[0].task_id, entries[2].task_id)
    edited = entries[1]
    label, probs = ("dog", DOG) if edited.label == "cat" else ("cat", CAT)
    edit(store, edited.task_id, "now another text", probs)

    def killed(*_args: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(versions, "extend", killed)
        with pytest.raises(KeyboardInterrupt):
            jobs.predict(7)
    jobs.predict(7)
    assert told(store)[edited.task_id].label == label
    second = project(store).batch_version or ""
    assert second not in {"", first}
    there = batches.entries(store, 7, second)
    assert [entry.task_id for entry in there] == [entries[1].task_id, *(entry.task_id for entry in entries[3:])]
    assert [entry.rank for entry in there] == list(range(len(there)))
    assert (there[0].label, there[0].reason) == (label, edited.reason)
    assert [entry.label for entry in there[1:]] == [entry.label for entry in entries[3:]]
    assert due.publishing_reason(store, project(store)) == "the batch is not published yet"
    assert [entry.label for entry in batches.entries(store, 7, first)] == [entry.label for entry in entries]


def test_an_edited_task_that_nobody_will_see_again_leaves_the_batch_as_it_is(runtime: Runtime) -> None:
    store, batch = runtime.store, project(runtime.store).batch_version
    annotate(store, 1)
    edit(store, 1, "now another text", CAT)
    jobs.predict(7)
    assert told(store)[1].label == "cat"
    assert project(store).batch_version == batch


def test_what_another_panel_said_is_not_predicted_from(runtime: Runtime) -> None:
    """Answers to a changed prompt wait for the version that is trained on them."""
    store, asked_anew = runtime.store, PanelMember("small", "f-small-2")
    projects.set_panel(store, 7, (PANEL[0], asked_anew))
    read(store, "woof number 0", CAT, asked_anew)
    assert due.predicting_reason(store, project(store)) is None
    jobs.predict(7)
    assert len(told(store)) == N


def test_an_annotator_without_a_part_in_the_version_has_none_in_what_it_predicts(
    settings: Settings, store: Store, connection: redis.Redis
) -> None:
    """It was away when the version was trained: what it says counts after the next training, which it causes."""
    runtime = Runtime(settings, store, connection)
    jobs.install(runtime)
    rows = add_texts(store, N)
    with store.write() as opened:
        opened.exec_driver_sql("DELETE FROM signals WHERE fingerprint = 'f-small'")
    signals.mark_absent(store, "f-small", "down")
    jobs.train(7)
    before = told(store)
    read(store, rows[0].text or "", CAT, PANEL[1])
    jobs.predict(7)
    np.testing.assert_allclose(told(store)[1].probs, before[1].probs, atol=1e-6)
    assert due.why_train(runtime, project(store)) is None, "it has more to read"
    for row in rows[1:]:
        read(store, row.text or "", DOG, PANEL[1])
    assert due.why_train(runtime, project(store)) == "an annotator answers now that had said nothing before"
    jobs.train(7)
    assert due.why_train(runtime, project(store)) is None


def test_a_version_that_comes_back_predicts_what_came_since(runtime: Runtime) -> None:
    store, first = runtime.store, version(runtime.store).id
    annotate(store, *range(1, 11))
    training.train(runtime, project(store), "a test")
    assert version(store).id != first
    edit(store, 20, "now another text", CAT)
    jobs.predict(7)
    versions.publish(store, 7, first)
    assert told(store)[20].text_key != tasks.some(store, 7, [20])[20].text_key
    jobs.predict(7)
    assert told(store)[20].text_key == tasks.some(store, 7, [20])[20].text_key


def test_what_is_answered_during_a_training_is_predicted_after_it(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, save = runtime.store, states.save
    tasks.upsert(store, 7, [Task(41, "h", "a new text")])

    def meanwhile(directory: Path, saved: Mapping[str, FittedState]) -> None:
        read(store, "a new text", CAT)
        save(directory, saved)

    monkeypatch.setattr(states, "save", meanwhile)
    annotate(store, *range(1, 11))
    training.train(runtime, project(store), "a test")
    assert len(told(store)) == N
    jobs.predict(7)
    assert told(store)[41].label == "cat"


class Letters:
    """An encoder that counts letters: enough to tell a meow from a woof."""

    fingerprint = "letters"

    def embed(self, texts: Sequence[str]) -> FloatArray:
        return np.array([[text.count(letter) for letter in "meowf "] for text in texts], dtype=np.float64)


@pytest.mark.parametrize("human", [0, 30])
@pytest.mark.parametrize("encoder", [None, Letters()])
def test_a_saved_version_says_the_same_after_a_restart(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, human: int, encoder: Letters | None
) -> None:
    """With no label the mixture is the log-odds pool, with 30 it is learned."""
    store, kept = runtime.store, dict[str, FittedState]()
    monkeypatch.setattr(Runtime, "encoder", lambda _: encoder)
    save = states.save
    monkeypatch.setattr(states, "save", lambda directory, saved: kept.update(saved) or save(directory, saved))
    annotate(store, *range(1, human + 1))
    training.train(runtime, project(store), "a test")
    made = version(store)
    assert made.round == 1
    rows = tasks.every(store, 7)
    panel = signals.load(store, project(store), rows)
    in_memory = run.predict(kept, [task.item for task in rows], panel, encoder)

    again = Runtime(runtime.settings, Store(runtime.settings.store_url), runtime.connection)
    found = states.load(again.settings.versions_dir / "7" / made.id)
    said = predicting.predictions_of(again, project(again.store), made, found, tasks.every(again.store, 7))
    np.testing.assert_allclose([row.probs for row in said], in_memory, atol=1e-6)
    stored = np.array([row.probs for row in told(store).values()])
    if encoder is None:
        np.testing.assert_allclose(in_memory, stored, atol=1e-6)
    else:  # a training stores what each fold's classifier says of the texts that it did not see
        assert (in_memory.argmax(axis=1) == stored.argmax(axis=1)).mean() > 0.9


def cut(directory: Path) -> None:
    """Files of which a half is left."""
    for path in directory.glob("*.safetensors"):
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def gone(directory: Path) -> None:
    directory.rename(directory.with_name(f"was {directory.name}"))


def of_another_release(directory: Path) -> None:
    """A mixture of a kind that this release does not know."""
    for path in directory.glob("*.json"):
        path.write_text(path.read_text().replace('"kind": "', '"kind": "old-'))


def facts_missing(directory: Path) -> None:
    for path in directory.glob("*.json"):
        path.unlink()


def emptied(directory: Path) -> None:
    for path in directory.iterdir():
        path.unlink()


def large_file_missing(directory: Path) -> None:
    for path in directory.glob("*.safetensors"):
        path.unlink()


@pytest.mark.parametrize("damage", [cut, gone, emptied, of_another_release, large_file_missing, facts_missing])
def test_a_version_whose_files_do_not_load_is_replaced_once(runtime: Runtime, damage: Any) -> None:
    store, first = runtime.store, version(runtime.store)
    damage(runtime.settings.versions_dir / "7" / first.id)
    assert due.why_train(runtime, project(store)) is None, "nobody needs the files yet"
    edit(store, 41 - 1, "now another text", CAT)
    jobs.predict(7)
    line = next(event.line for event in events.newest(store) if event.kind == "problem")
    assert f"{first.id} cannot predict new texts, because its files do not load" in line
    assert due.predicting_reason(store, project(store)) is None
    assert due.why_train(runtime, project(store)) == f"the files of {first.id} do not load"
    jobs.train(7)
    second = version(store)
    assert (second.round, second.facts["replaces"]) == (1, first.id)
    assert told(store)[40].label == "cat"
    assert due.why_train(runtime, project(store)) is None

    damage(runtime.settings.versions_dir / "7" / second.id)
    edit(store, 39, "and yet another text", CAT)
    jobs.predict(7)
    assert version(store).unreadable
    assert due.why_train(runtime, project(store)) is None, "once is enough: the disk may be broken"
    assert due.predicting_reason(store, project(store)) is None
    versions.publish(store, 7, second.id)  # a person says: try again
    assert due.predicting_reason(store, project(store)) is not None


def test_the_gate_lets_the_successor_of_an_unreadable_version_pass(runtime: Runtime) -> None:
    store = runtime.store
    annotate(store, *range(1, 36))
    jobs.train(7)
    good = version(store)
    losses = {key: loss - 5.0 - 0.01 * n for n, (key, loss) in enumerate(good.facts["losses"].items())}
    rows = list(told(store).values())
    versions.save(store, 7, replace(good, facts=good.facts | {"losses": losses}), rows)
    versions.mark_unreadable(store, 7, good.id, "cut short")
    jobs.train(7)
    assert version(store).facts["replaces"] == good.id


def test_only_new_and_edited_texts_and_answers_are_changes(store: Store) -> None:
    rows = add_texts(store, 3)
    last = changes.newest(store, 7)
    assert changes.after(store, 7, last, 10) == ([], last)
    tasks.upsert(store, 7, [replace(rows[0], data_hash="another field was edited")])
    tasks.stamp(store, 7, {1: "2026"})
    tasks.tombstone(store, 7, [2])
    read(store, "a text that no task has", CAT)
    assert changes.newest(store, 7) == last
    tasks.upsert(store, 7, [rows[1]])  # it is there again
    tasks.upsert(store, 7, [replace(rows[2], text=None, problem="no text")])
    assert changes.after(store, 7, last, 10)[0] == [2]
    other = replace(projects.get(store, 7), id=8)
    projects.save(store, other)
    tasks.upsert(store, 8, [Task(1, "h", "a shared text")])
    tasks.upsert(store, 7, [Task(9, "h", "a shared text")])
    before = changes.newest(store, 7), changes.newest(store, 8)
    read(store, "a shared text", CAT, PANEL[0])
    after = changes.newest(store, 7), changes.newest(store, 8)
    assert after[0] > before[0]
    assert after[1] > before[1]
    read(store, "a shared text", CAT, PANEL[0])  # the same answer again
    assert changes.newest(store, 7) == after[0]


def test_a_task_from_the_store_is_not_hashed_again(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = add_texts(store, 3)
    monkeypatch.setattr("mollm_backend.store.tasks.digest", None)
    again = tasks.every(store, 7)
    assert again == rows
    assert [row.text_key for row in again] == [row.item.text_key for row in rows]
    monkeypatch.undo()
    assert replace(again[0], text="another").text_key == Task(1, "", "another").text_key
