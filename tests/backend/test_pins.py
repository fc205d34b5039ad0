"""A rollback pins: nothing is published over it, by whatever was running, until somebody unpins."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Sequence

import pytest
import redis
from typer.testing import CliRunner

from mollm_backend import cli, jobs
from mollm_backend.cli import terminal
from mollm_backend.doctor import work
from mollm_backend.jobs import due, predicting, training
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.settings import Settings
from mollm_backend.store import Store, batches, events, pins, projects, schema, tasks, versions
from mollm_backend.store.projects import Project
from mollm_backend.store.versions import Version
from mollm_backend.view import project as view
from mollm_backend.view import render
from mollm_backend.work import queues

from .conftest import add_texts
from .test_jobs import label

PUBLISHES = (
    "import sys; from mollm_backend.store import Store, versions; "
    "print(versions.publish(Store(sys.argv[1]), 7, sys.argv[2], sys.argv[2] + '+batch-1'))"
)


@pytest.fixture
def runtime(settings: Settings, store: Store, connection: redis.Redis) -> Runtime:
    opened = Runtime(settings, store, connection)
    jobs.install(opened)
    return opened


@pytest.fixture
def said(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Call a command on the same store and queue; what it printed."""
    monkeypatch.setenv("MOLLM_HOME", str(settings.home))
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.setattr(terminal.console, "_width", 200)
    return lambda *words: CliRunner().invoke(cli.app, words, catch_exceptions=False).output


def project(store: Store) -> Project:
    return projects.get(store, 7)


def ids(store: Store) -> list[str]:
    """The versions, oldest first."""
    return [row.id for row in reversed(versions.every(store, 7))]


def status(store: Store) -> list[str]:
    return [row.status for row in reversed(versions.every(store, 7))]


def refit(runtime: Runtime, labelled: Sequence[int]) -> None:
    label(runtime.store, *labelled)
    training.train(runtime, project(runtime.store), "a test")


def pin_first(store: Store, *, until_next: bool = False) -> str:
    first = ids(store)[0]
    batch = batches.newest(store, 7, first)
    assert batch is not None
    pins.pin(store, 7, first, batch, until_next=until_next)
    return first


def test_a_refit_publishes_nothing_over_a_pin_and_stays_a_candidate(runtime: Runtime) -> None:
    store = runtime.store
    add_texts(store, 60)
    refit(runtime, [])
    refit(runtime, range(1, 21))
    first, batch = pin_first(store), project(store).batch_version
    refit(runtime, range(21, 41))
    now = project(store)
    assert (now.published_version, now.batch_version) == (first, batch)
    assert status(store) == ["published", "retired", "candidate"]
    assert f"pinned to {first}" in events.newest(store)[0].line
    assert due.training_reason(store, now, 10) is None, "a held version is a version: it is not trained again"


@pytest.mark.parametrize("until_next", [False, True])
def test_a_rollback_at_the_end_of_a_training_wins(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, until_next: bool
) -> None:
    store, save = runtime.store, batches.save
    add_texts(store, 60)
    refit(runtime, [])

    def save_and_roll_back(*args: object) -> None:
        save(*args)  # type: ignore[arg-type]
        pin_first(store, until_next=until_next)

    monkeypatch.setattr(training.batches, "save", save_and_roll_back)
    refit(runtime, range(1, 21))  # its batch is stored, and its last step is to publish
    assert status(store) == ["published", "candidate"]
    assert project(store).published_version == ids(store)[0]
    assert project(store).batch_version == batches.newest(store, 7, ids(store)[0])


def test_a_pin_until_the_next_version_ends_with_one_that_began_after_it(runtime: Runtime) -> None:
    store = runtime.store
    add_texts(store, 60)
    refit(runtime, [])
    refit(runtime, range(1, 21))
    pin_first(store, until_next=True)
    refit(runtime, range(21, 41))
    assert status(store) == ["retired", "retired", "published"]
    assert project(store).pin == ""


def test_another_process_cannot_publish_over_a_pin(runtime: Runtime) -> None:
    store = runtime.store
    add_texts(store, 40)
    refit(runtime, [])
    versions.save(store, 7, Version("other", 1, "candidate", 0), [])
    first = pin_first(store)
    for held in ("False", "True"):
        command = [sys.executable, "-c", PUBLISHES, str(store.url), "other"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == held
        assert project(store).published_version == (first if held == "False" else "other")
        pins.unpin(store, 7)  # "other" has no batch, so that the pin held nothing back


def test_unpinning_publishes_the_newest_that_was_held_back(runtime: Runtime) -> None:
    store = runtime.store
    add_texts(store, 60)
    refit(runtime, [])
    pin_first(store)
    refit(runtime, range(1, 21))
    refit(runtime, range(21, 41))
    newest = ids(store)[-1]
    assert pins.unpin(store, 7) == newest
    now = project(store)
    assert (now.published_version, now.batch_version, now.pin) == (newest, f"{newest}+batch-1", "")
    assert status(store) == ["retired", "candidate", "published"]
    assert due.publishing_reason(store, now) == due.UNPUBLISHED
    assert pins.unpin(store, 7) is None, "it is not pinned any more"
    assert project(store).published_version == newest


def test_unpinning_leaves_a_candidate_that_is_older_than_what_was_published(runtime: Runtime) -> None:
    store = runtime.store
    add_texts(store, 60)
    refit(runtime, [])
    with store.write() as connection:  # a training that was killed before its end
        connection.execute(schema.versions.update().values(status="candidate"))
    refit(runtime, range(1, 21))
    second = ids(store)[1]
    pins.pin(store, 7, second, f"{second}+batch-1")
    assert pins.unpin(store, 7) is None
    assert (project(store).published_version, project(store).pin) == (second, "")


def test_the_pinned_version_predicts_new_texts_and_its_batch_is_refilled(runtime: Runtime) -> None:
    store = runtime.store
    add_texts(store, 40)
    refit(runtime, [])
    first = pin_first(store)
    refit(runtime, range(1, 41))
    add_texts(store, 60)
    predicting.predict(runtime, project(store))
    assert len(versions.predicted(store, 7, first)) == 60
    jobs._refill(runtime, project(store))
    batch = batches.entries(store, 7, project(store).batch_version or "")
    batches.mark_published(store, 7, project(store).batch_version or "", [row.task_id for row in batch])
    jobs._refill(runtime, project(store))
    batch = batches.entries(store, 7, project(store).batch_version or "")
    assert {row.task_id for row in batch} == set(range(1, 61))
    assert {row.version for row in batch} == {first}


def test_a_pinned_version_whose_files_are_gone_is_refitted_once(runtime: Runtime) -> None:
    store = runtime.store
    add_texts(store, 40)
    refit(runtime, [])
    first = pin_first(store)
    versions.mark_unreadable(store, 7, first, "gone")
    assert due.training_reason(store, project(store), 10) == f"the files of {first} do not load"
    refit(runtime, [])
    assert status(store) == ["published", "candidate"]
    assert due.training_reason(store, project(store), 10) is None


def test_the_batch_of_an_edited_text_does_not_come_over_a_rollback(runtime: Runtime) -> None:
    store = runtime.store
    add_texts(store, 20)
    refit(runtime, [])
    refit(runtime, range(1, 11))
    second = ids(store)[1]
    first = pin_first(store)
    projects.set_batch(store, 7, second, f"{second}+batch-2")  # a job that began under the second version
    assert project(store).batch_version == f"{first}+batch-1"


def test_the_commands_pin_and_say_so(
    runtime: Runtime, said: Callable[..., str], settings: Settings, connection: redis.Redis
) -> None:
    store = runtime.store
    add_texts(store, 60)
    refit(runtime, [])
    refit(runtime, range(1, 21))
    first, second = ids(store)
    assert "is not pinned" in said("unpin", "7")
    done = said("rollback", "7", first)
    pin = project(store).pin
    assert pin in done
    assert f"pinned to {first} since 2" in pin
    assert "`mollm unpin 7`" in pin
    assert queues.enqueued(connection, "publish", 7)
    for words in (("versions", "7"), ("report", "7"), ("next-batch", "7")):
        assert pin in said(*words), words
    assert json.loads(said("report", "7", "--json"))["projects"][0]["pinned"]["version"] == first
    assert any(row.name == "pinned" for row in work.examine(store, settings, [project(store)]))
    page = render.project_page(view.state(store, connection, project(store)), actions=None)
    assert pin.split(":")[0] in page
    assert "No version was held back" in said("unpin", "7")
    assert project(store).published_version == first
    said("rollback", "7", second, "--until-next")
    assert "until the next version" in said("versions", "7")
    refit(runtime, range(21, 41))
    assert "pinned" not in said("versions", "7")


def test_a_labelled_task_has_no_place_after_a_rollback(runtime: Runtime, said: Callable[..., str]) -> None:
    store = runtime.store
    add_texts(store, 40)
    refit(runtime, [])
    order = [row.task_id for row in batches.entries(store, 7, project(store).batch_version or "")]
    refit(runtime, order[:20])
    pin_first(store)
    shown = json.loads(said("next-batch", "7", "--json"))
    assert [row["task_id"] for row in shown] == order[20:]
    assert [row["place"] for row in shown] == list(range(1, 21))
    assert json.loads(said("explain", "7", str(order[0]), "--json"))["batch"] is None
    assert "it is labelled or skipped" in said("explain", "7", str(order[0]))
    assert json.loads(said("explain", "7", str(order[20]), "--json"))["batch"]["place"] == 1
    assert "place 1 of 20" in said("explain", "7", str(order[20]))
    found = json.loads(said("report", "7", "--json"))["projects"][0]
    assert (found["open"], found["batch"]["open"]) == (20, 20)
    assert "40 tasks (20 open), 20 human labels" in said("report", "7")
    tasks.tombstone(store, 7, order[:1])
    assert json.loads(said("report", "7", "--json"))["projects"][0]["open"] == 20
