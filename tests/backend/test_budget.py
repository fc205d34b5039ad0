"""A day's budget ends the panel's work before the next chunk, in one project, until it is raised or the day ends."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import redis
from typer.testing import CliRunner

from mollm.annotators import Answer
from mollm.errors import ConfigError
from mollm.records import Provenance
from mollm_backend import jobs
from mollm_backend.cli import app as command_line
from mollm_backend.jobs import due, training
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.settings import Settings
from mollm_backend.store import Store, events, labels, projects, signals, tasks
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import Project
from mollm_backend.store.signals import Cost
from mollm_backend.store.tasks import Task
from mollm_backend.view import project as view
from mollm_backend.view import render
from mollm_backend.work import budget, queues

from .conftest import PANEL, add_texts


class Talker:
    """An annotator that takes 100 tokens a text; what it was asked is remembered."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def annotate(self, texts: Sequence[str]) -> list[Answer]:
        self.asked += texts
        return [Answer(np.array([0.7, 0.3]), np.array([0.7, 0.3]), prompt_tokens=90, completion_tokens=10)] * len(texts)


@pytest.fixture
def talker() -> Talker:
    return Talker()


@pytest.fixture
def runtime(
    settings: Settings, store: Store, connection: redis.Redis, talker: Talker, monkeypatch: pytest.MonkeyPatch
) -> Runtime:
    opened = Runtime(settings, store, connection)
    monkeypatch.setattr(opened, "annotator", lambda _project, _member: talker)
    jobs.install(opened)
    return opened


def with_texts(store: Store, count: int, **options: Any) -> Project:
    tasks.upsert(store, 7, [Task(n + 1, f"hash-{n}", f"text number {n}") for n in range(count)])
    projects.change(store, 7, options=options)
    return projects.get(store, 7)


def test_the_panel_stops_before_the_chunk_that_the_budget_does_not_cover(runtime: Runtime, talker: Talker) -> None:
    project = with_texts(runtime.store, 100, tokens_a_day=3000)
    jobs.annotate(7, "tiny")
    assert len(talker.asked) == 32  # two chunks of 16 texts are 3,200 tokens
    jobs.annotate(7, "small")
    assert len(talker.asked) == 32
    spent = budget.of(runtime.store, project)
    assert "3,200 of 3,000 tokens" in spent.paused
    assert "mollm options 7" in spent.paused


def test_a_paused_project_queues_no_reading_and_says_so_once(runtime: Runtime, connection: redis.Redis) -> None:
    project = with_texts(runtime.store, 40, tokens_a_day=100)
    jobs.annotate(7, "tiny")
    for _ in range(3):
        due.sweep(runtime)
    assert not any(queues.enqueued(connection, "annotate", 7, member.name) for member in PANEL)
    said = [event.line for event in events.newest(runtime.store) if "today's budget" in event.line]
    assert len(said) == 1
    state = view.status(runtime.store, connection)
    assert state["projects"][0]["budget"]["paused"]
    assert "today&#39;s budget is spent" in render.project_page(state["projects"][0], actions=None)
    projects.change(runtime.store, 7, options=project.options | {"tokens_a_day": 10_000})
    due.sweep(runtime)
    assert queues.enqueued(connection, "annotate", 7, "tiny")


def test_the_next_day_goes_on_by_itself(runtime: Runtime, talker: Talker, monkeypatch: pytest.MonkeyPatch) -> None:
    with_texts(runtime.store, 40, tokens_a_day=100)
    jobs.annotate(7, "tiny")
    jobs.annotate(7, "tiny")
    assert len(talker.asked) == 16
    for module in (signals, budget):
        monkeypatch.setattr(module, "now", lambda: "2999-01-01T00:00:00.000+00:00")
    jobs.annotate(7, "tiny")
    assert len(talker.asked) == 32


def test_seconds_count_too(runtime: Runtime) -> None:
    project = with_texts(runtime.store, 4, seconds_a_day=5)
    signals.save(runtime.store, PANEL[0], 7, [], Cost(seconds=4.0))
    assert not budget.of(runtime.store, project).paused
    signals.save(runtime.store, PANEL[1], 7, [], Cost(seconds=1.5))
    assert "6 of 5 seconds" in budget.of(runtime.store, project).paused


def test_a_paused_project_still_trains_on_what_is_read_and_on_what_people_say(runtime: Runtime) -> None:
    add_texts(runtime.store, 30)
    tasks.upsert(runtime.store, 7, [Task(99, "h", "not read yet")])
    project = projects.get(runtime.store, 7)
    assert due.training_reason(runtime.store, project, 5) is None  # the panel is at it
    signals.save(runtime.store, PANEL[0], 7, [], Cost(prompt_tokens=10))
    projects.change(runtime.store, 7, options={"tokens_a_day": 1})
    project = projects.get(runtime.store, 7)
    assert due.training_reason(runtime.store, project, 5) == "first version"
    training.train(runtime, project, "first version")
    project = projects.get(runtime.store, 7)
    assert due.training_reason(runtime.store, project, 5) is None
    rows = [Annotation(n, n, 1, "dog", False, Provenance.EDITED) for n in range(1, 6)]
    labels.upsert(runtime.store, 7, rows)
    assert due.training_reason(runtime.store, project, 5) is not None


def test_another_projects_spending_is_not_ones_own(runtime: Runtime) -> None:
    project = with_texts(runtime.store, 4, tokens_a_day=100)
    signals.save(runtime.store, PANEL[0], 8, [], Cost(prompt_tokens=1_000_000))
    assert not budget.of(runtime.store, project).paused


@pytest.mark.parametrize("wrong", [-1, "many", True, float("nan")])
def test_a_limit_that_is_no_number_is_refused(wrong: object) -> None:
    with pytest.raises(ConfigError):
        budget.limits_of({"tokens_a_day": wrong})


def test_the_command_sets_and_shows_them(
    store: Store, settings: Settings, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOLLM_HOME", str(settings.home))
    monkeypatch.setenv("REDIS_URL", settings.redis_url)

    def run(*words: str) -> Any:
        return CliRunner().invoke(command_line, ["options", "7", *words])

    assert "budget: no limit" in run().stdout
    done = run("--tokens-a-day", "5000", "--blind-share", ".1", "--weight", "accepted=.5", "--json")
    assert done.exit_code == 0
    own = projects.get(store, 7).options
    assert own == {"tokens_a_day": 5000, "blind_share": 0.1, "provenance_weights": {"accepted": 0.5}}
    assert queues.nudges(connection, 7) == 1
    assert "0 of 5,000 tokens spent today" in run().stdout
    assert "Classify the text by its topic." in run().stdout
    assert "Name the [animal]." in run("--instruction", "Name the [animal].").stdout
    assert run("--weight", "accepted=").exit_code == 0
    assert projects.get(store, 7).options["provenance_weights"] == {}
    for wrong in (("--weight", "accepted"), ("--weight", "copied=.5"), ("--weight", "edited=2")):
        assert isinstance(run(*wrong).exception, Exception)
    assert run("--blind-share", "2").exit_code == 2


def test_a_projects_own_instruction_asks_its_panel_again(runtime: Runtime, store: Store) -> None:
    project = projects.get(store, 7)
    before = runtime.members(project)
    projects.change(store, 7, options={"instruction": "Name the animal."})
    after = runtime.members(projects.get(store, 7))
    assert [row.name for row in after] == [row.name for row in before]
    assert not {row.fingerprint for row in after} & {row.fingerprint for row in before}
    projects.change(store, 7, options={"instruction": ""})
    assert runtime.members(projects.get(store, 7)) == before
