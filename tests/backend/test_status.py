"""`mollm status`: one screen for everything, whatever is there and whatever is not."""

from __future__ import annotations

import json
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from mollm.errors import InputError
from mollm.records import Provenance
from mollm_backend import cli
from mollm_backend.cli import status as command
from mollm_backend.store import Store, batches, events, labels, projects, signals, versions
from mollm_backend.store.batches import StoredEntry
from mollm_backend.store.labels import Annotation
from mollm_backend.work import overview, queues, workers
from mollm_backend.work.noting import noted

from .conftest import add_texts


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOLLM_HOME", str(tmp_path))
    monkeypatch.setenv("REDIS_URL", "unix:///nowhere.sock")
    for name in ("DATABASE_URL", "LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def here(store: Store, connection: redis.Redis, queue_url: str, home: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The project of `store`, with its queue, as commands find it."""
    assert store is not None
    monkeypatch.setenv("REDIS_URL", queue_url)
    monkeypatch.setattr(workers, "every", lambda _connection: ["one"])
    return store


def told(*words: str) -> str:
    done = CliRunner().invoke(cli.app, ["status", *words], catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def seen() -> dict[str, Any]:
    (row,) = json.loads(told("--json"))["projects"]
    return dict(row)


def test_an_empty_home_says_how_to_begin(home: Path) -> None:
    said = told()
    assert "queue not running" in said
    assert "Label Studio not set" in said
    assert "No project is connected yet." in said
    assert "next: `mollm up`" in said
    with pytest.raises(InputError, match="connect 3"):
        CliRunner().invoke(cli.app, ["status", "3"], catch_exceptions=False)


def test_a_project_without_queue_is_still_shown(home: Path, store: Store) -> None:
    add_texts(store, 40)
    said = told("7")
    assert "7 Pets" in said
    assert "all 40 tasks are read" in said
    assert "0 labels of people; 40 tasks wait for people" in said
    assert "no version yet" in said


def test_a_reading_that_goes_on_is_shown_with_its_bar_and_its_expected_end(
    here: Store, connection: redis.Redis
) -> None:
    add_texts(here, 40)
    clock = [time.time() - 10]
    with noted(connection, 7, "reading by tiny", 40, clock=lambda: clock[0]) as note:
        clock[0] += 10
        note.reached(10)
        said = told("7")
        assert "█████░░░░░░░░░░░░░░░ reading by tiny: 10 of 40, for 1" in said
        assert "s to go" in said
        (row,) = seen()["running"]
        assert (row["what"], row["share"]) == ("reading by tiny", 0.25)
        assert row["ends"] == pytest.approx(time.time() + 30, abs=5)
    assert "reading by" not in told("7")


def publish(store: Store, tasks: int, reserve: int) -> None:
    versions.save(store, 7, versions.Version("mollm-0-abc", 0, "candidate", 0, {"panel": []}), [])
    entries = [StoredEntry(n, n - 1, "mollm-0-abc", "cat", 0.5, "hard") for n in range(1, tasks + reserve + 1)]
    batches.save(store, 7, "mollm-0-abc+batch-1", entries)
    versions.publish(store, 7, "mollm-0-abc", "mollm-0-abc+batch-1")


def test_a_batch_is_not_counted_with_its_reserve(here: Store) -> None:
    add_texts(here, 40)
    publish(here, 20, 20)
    projects.change(here, 7, options={"batch_size": 20})
    row = seen()
    assert (row["waiting"], row["next_batch"]) == (40, 20)
    assert "40 tasks wait for people (20 in the next batch)" in told()
    assert "Label All Tasks at http://ls/projects/7/data" in row["next_step"]
    assert "nobody knows yet: `mollm audit 7 --labels 20`" in row["trust"]


def test_when_all_is_labelled_the_next_step_is_the_export(here: Store) -> None:
    add_texts(here, 4)
    publish(here, 4, 0)
    rows = [Annotation(100 + n, n, 1, "cat", False, Provenance.FROM_SCRATCH) for n in range(1, 5)]
    labels.upsert(here, 7, rows[:3])
    assert seen()["waiting"] == 1
    assert "1 task waits for people" in told()
    assert "`mollm finish 7`" in seen()["next_step"]
    labels.upsert(here, 7, rows)
    row = seen()
    assert (row["people"], row["waiting"]) == (4, 0)
    assert row["next_step"] == "all is labelled: `mollm export 7`"


def test_the_most_urgent_warning_comes_alone(here: Store, connection: redis.Redis) -> None:
    add_texts(here, 4)
    assert seen()["warning"] == ""
    signals.mark_absent(here, "f-tiny", "it does not answer.")
    assert seen()["warning"] == "tiny is away: it does not answer"
    assert "away: tiny" in told()
    queues.hold(connection, "train-7")
    events.add(here, "problem", "train: no room left (next try in 30 s)", 7)
    assert seen()["warning"] == "the worker failed once: train: no room left (next try in 30 s)"
    queues.hold(connection, "train-77")
    projects.change(here, 7, attention="many labels are gone")
    assert seen()["warning"] == "many labels are gone"
    projects.change(here, 7, connected=False)
    assert "`mollm connect 7`" in seen()["warning"]


def test_a_project_without_tasks_says_so(here: Store) -> None:
    row = seen()
    assert row["read_share"] == 1.0
    assert row["next_step"] == "import tasks: http://ls/projects/7/data"
    assert "no tasks yet" in told()


def test_the_line_of_mollm_up_says_the_same(here: Store, connection: redis.Redis) -> None:
    add_texts(here, 40)
    found = overview.of(here, connection, projects.get(here, 7), 50)
    assert found.line() == (
        "project 7: all 40 tasks are read; 0 labels of people; 40 tasks wait for people; no version yet"
    )
    behind = replace(found, read={"tiny": 10, "small": 40})
    assert behind.reading() == "tiny has read 10 of 40 tasks"
    assert behind.read_share == pytest.approx(50 / 80)
    assert replace(found, readable=30).reading() == "all 30 tasks are read; 10 cannot be read"


def test_watching_ends_on_ctrl_c_with_the_last_screen(here: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add_texts(here, 4)
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 3:
            raise KeyboardInterrupt
        projects.change(here, 7, title=f"Pets {len(looks)}")

    monkeypatch.setattr(command.time, "sleep", sleep)
    said = told("--watch")
    assert looks == [command.REFRESH] * 3
    assert said.index("7 Pets\n") < said.index("7 Pets 1") < said.index("7 Pets 2")
    assert CliRunner().invoke(cli.app, ["status", "--watch", "--json"]).exit_code == 2


def test_services_that_answer_are_told_from_those_that_do_not(here: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://127.0.0.1:1")
    assert "Label Studio http://127.0.0.1:1 does not answer" in told()
    monkeypatch.setattr(command, "_answers", lambda url: url.startswith("http://127.0.0.1:1/"))
    found = json.loads(told("--json"))["services"]
    assert found["label_studio_up"]
    assert not found["backend_up"]
    assert (found["queue"], found["workers"]) == (True, 1)


def test_markup_in_a_title_is_shown_as_it_is(home: Path, store: Store) -> None:
    projects.change(store, 7, title="[red]Pets[/red] \u05d0")
    with closing(store):
        assert "7 [red]Pets[/red] \u05d0" in told()
