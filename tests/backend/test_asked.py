"""A training that a person asks for: refused where nothing can be learned, else it says what it waits for."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis
from typer.testing import CliRunner

from mollm.errors import InputError
from mollm.records import Provenance
from mollm_backend import cli, jobs
from mollm_backend.cli import waiting
from mollm_backend.jobs import due
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.settings import Settings
from mollm_backend.store import Store, events, labels, projects, tasks, versions
from mollm_backend.store.labels import Annotation
from mollm_backend.store.tasks import Task
from mollm_backend.work import asked, progress, queues, workers

from .conftest import add_texts


@pytest.fixture
def runtime(
    settings: Settings, store: Store, connection: redis.Redis, queue_url: str, monkeypatch: pytest.MonkeyPatch
) -> Runtime:
    monkeypatch.setenv("MOLLM_HOME", str(settings.home))
    monkeypatch.setenv("REDIS_URL", queue_url)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setattr(workers, "every", lambda _connection: ["one"])
    opened = Runtime(settings, store, connection)
    jobs.install(opened)
    return opened


def label(store: Store, *task_ids: int) -> None:
    labels.upsert(store, 7, [Annotation(100 + n, n, 1, "cat", False, Provenance.FROM_SCRATCH) for n in task_ids])


def take_in(connection: redis.Redis) -> None:
    """A reconciliation has seen all events."""
    queues.finish_nudges(connection, 7, queues.nudges(connection, 7))


def train(*words: str) -> str:
    done = CliRunner().invoke(cli.app, ["train", "7", *words], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_a_training_without_any_label_is_refused(runtime: Runtime) -> None:
    add_texts(runtime.store, 20)
    with pytest.raises(InputError, match=r"People have not labelled any task of project 7 yet.*comes once the panel"):
        train()
    jobs.train(7)
    with pytest.raises(InputError, match="there is nothing to learn"):
        train()
    assert not queues.training_requested(runtime.connection, 7)


def test_a_training_without_a_new_label_is_refused(runtime: Runtime) -> None:
    add_texts(runtime.store, 20)
    label(runtime.store, 1, 2)
    jobs.train(7)
    newest = versions.newest(runtime.store, 7)
    assert newest is not None
    with pytest.raises(InputError, match=f"since {newest.id}"):
        train()
    label(runtime.store, 3)
    assert "Asked for a training" in train()
    assert queues.training_requested(runtime.connection, 7)


def test_labels_that_are_not_taken_in_yet_may_be_new(runtime: Runtime) -> None:
    queues.nudge(runtime.connection, 7)
    assert "it waits until the newest labels are read from Label Studio" in train()


def test_a_request_from_which_nothing_can_be_learned_does_not_fire_later(runtime: Runtime) -> None:
    add_texts(runtime.store, 20)
    jobs.train(7)
    queues.request_training(runtime.connection, 7)  # as Label Studio's own button does
    project = projects.get(runtime.store, 7)
    due.sweep_project(runtime, project)
    assert queues.training_requested(runtime.connection, 7), "the labels before it are not taken in yet"
    take_in(runtime.connection)
    due.sweep_project(runtime, project)
    assert not queues.training_requested(runtime.connection, 7)
    assert "no training, although one was asked for" in events.newest(runtime.store)[0].line
    label(runtime.store, 1)
    due.sweep_project(runtime, projects.get(runtime.store, 7))
    assert not queues.enqueued(runtime.connection, "train", 7), "one label is no reason by itself"


def test_a_request_before_the_first_version_waits_for_the_panel(runtime: Runtime) -> None:
    queues.request_training(runtime.connection, 7)
    take_in(runtime.connection)
    due.sweep_project(runtime, projects.get(runtime.store, 7))
    assert queues.training_requested(runtime.connection, 7)


def test_it_says_what_it_waits_for(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    store, connection = runtime.store, runtime.connection
    project = projects.get(store, 7)
    assert asked.waits_for(store, connection, project) == "it waits for its turn in the queue"
    with progress.noted(connection, 7, "reading by tiny", 40, done=10):
        assert "until the worker is free: reading by tiny: 10 of 40" in asked.waits_for(store, connection, project)
    progress.note(connection, project, progress.Progress(40, 0, {"f-tiny": 30, "f-small": 0}))
    assert asked.waits_for(store, connection, project) == "it waits for the panel: tiny has 30 to read"
    queues.nudge(connection, 7)
    assert "newest labels" in asked.waits_for(store, connection, project)
    queues.hold(connection, "train-7")
    assert "the last training failed" in asked.waits_for(store, connection, project)
    monkeypatch.setattr(workers, "every", lambda _connection: [])
    assert "`mollm up`" in asked.waits_for(store, connection, project)


def test_wait_waits_and_tells_the_new_version(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    add_texts(runtime.store, 20)
    jobs.train(7)
    label(runtime.store, 1, 2)

    def work(_seconds: float) -> None:
        take_in(runtime.connection)
        jobs.train(7)

    monkeypatch.setattr(waiting.time, "sleep", work)
    said = train("--wait")
    newest = versions.newest(runtime.store, 7)
    assert newest is not None
    assert newest.human_labels == 2
    assert f"{newest.id} from 2 labels of people" in said


def test_wait_ends_where_the_worker_is_gone_or_fails(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    add_texts(runtime.store, 20)
    jobs.train(7)
    label(runtime.store, 1, 2)

    def fail(_seconds: float) -> None:
        queues.hold(runtime.connection, "train-7")
        events.add(runtime.store, "problem", "train: no room left", 7)

    monkeypatch.setattr(waiting.time, "sleep", fail)
    with pytest.raises(InputError, match="train: no room left"):
        train("--wait")
    monkeypatch.setattr(workers, "every", lambda _connection: [])
    with pytest.raises(InputError, match="`mollm up` starts one"):
        train("--wait")


def test_ctrl_c_ends_the_waiting_and_not_the_training(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    add_texts(runtime.store, 20)
    label(runtime.store, 1)

    def stop(_seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(waiting.time, "sleep", stop)
    done = CliRunner().invoke(cli.app, ["train", "7", "--wait"])
    assert done.exit_code == 130
    assert "It goes on without you: `mollm status 7`" in done.output
    assert queues.training_requested(runtime.connection, 7)


def test_without_a_queue_it_says_what_to_start(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLLM_HOME", str(tmp_path))
    monkeypatch.setenv("REDIS_URL", "unix:///nowhere.sock")
    add_texts(store, 20)
    label(store, 1)
    with pytest.raises(InputError, match="mollm up"):
        train()


def test_examples_say_what_they_cost_and_for_whom_they_are_shortened(runtime: Runtime) -> None:
    short, long = (Task(n + 1, f"hash-{n}", text) for n, text in enumerate(["meow", "woof " * 2000]))
    tasks.upsert(runtime.store, 7, [short, long])
    label(runtime.store, 1)
    said = train("--refresh-prompts", "--yes")
    assert "New examples (1) change every prompt" in said
    assert "shortened" not in said
    labels.upsert(runtime.store, 7, [Annotation(102, 2, 1, "dog", False, Provenance.FROM_SCRATCH)])
    said = train("--refresh-prompts", "--yes")
    assert "shortened for smollm2, gemma3: they may take 50% of `max_tokens`" in " ".join(said.split())
    assert projects.get(runtime.store, 7).options["shots"] == [["meow", "cat"], ["woof " * 2000, "dog"]]
    with pytest.raises(InputError, match=r"at most 1 of each label as examples: raise `shots`.*or lower --per-label"):
        train("--refresh-prompts", "--yes", "--per-label", "2")
