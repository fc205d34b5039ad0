"""Two projects on one backend: whatever is wrong with one, the other reads, trains, publishes and tells as alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import redis
from flask import Flask

from mollm.annotators import AnnotatorUnavailable, Answer
from mollm.records import LabelSet, Provenance
from mollm_backend import jobs
from mollm_backend.jobs import due
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.labelstudio.events import SECRET_HEADER
from mollm_backend.settings import Settings
from mollm_backend.store import Store, events, labels, projects, signals, tasks, versions
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.tasks import Task
from mollm_backend.view import project as view
from mollm_backend.view import render
from mollm_backend.work import budget, queues

OTHER = (PanelMember("tiny", "g-tiny"), PanelMember("small", "g-small"))


class Speaker:
    def __init__(self, C: int, *, broken: bool = False) -> None:
        self.C, self.broken, self.texts = C, broken, 0

    def annotate(self, texts: Sequence[str]) -> list[Answer]:
        if self.broken:
            raise AnnotatorUnavailable("the model file is cut short")
        self.texts += len(texts)
        probs = np.full(self.C, 1 / self.C)
        return [Answer(probs, probs, prompt_tokens=50)] * len(texts)


@pytest.fixture
def other(store: Store) -> Project:
    """Project 8: other labels, the same task numbers as project 7."""
    first = projects.get(store, 7)
    asked_of_8 = (replace(first.decision, labels=LabelSet(("red", "green", "blue"))),)
    project = replace(first, id=8, title="Colours", decisions=asked_of_8, panel=OTHER)
    projects.save(store, project)
    for number, word in ((7, "pet"), (8, "colour")):
        tasks.upsert(store, number, [Task(n, f"{word}-{n}", f"{word} {n}") for n in range(1, 41)])
    return project


@pytest.fixture
def speakers() -> dict[int, Speaker]:
    return {7: Speaker(2), 8: Speaker(3)}


@pytest.fixture
def runtime(
    settings: Settings, store: Store, connection: redis.Redis, other: Project, speakers: dict[int, Speaker],
    monkeypatch: pytest.MonkeyPatch,
) -> Runtime:  # fmt: skip
    opened = Runtime(settings, store, connection)
    monkeypatch.setattr(opened, "annotator", lambda project, _member: speakers[project.id])
    jobs.install(opened)
    return opened


def read_and_train(project_id: int) -> None:
    for name in ("tiny", "small"):
        jobs.annotate(project_id, name)
    jobs.train(project_id)


def said_of(store: Store, project_id: int) -> list[str]:
    return [event.line for event in events.newest(store, 100, project_id=project_id)]


def test_a_broken_llm_in_one_leaves_the_other_as_it_was(runtime: Runtime, speakers: dict[int, Speaker]) -> None:
    speakers[7].broken = True
    read_and_train(7)
    read_and_train(8)
    assert projects.get(runtime.store, 7).published_version is None
    assert projects.get(runtime.store, 8).published_version is not None
    assert set(signals.absent(runtime.store)) == {"f-tiny", "f-small"}
    assert any("cut short" in line for line in said_of(runtime.store, 7))
    assert not any("cut short" in line for line in said_of(runtime.store, 8))


def test_a_spent_budget_in_one_pauses_that_one_alone(
    runtime: Runtime, connection: redis.Redis, speakers: dict[int, Speaker]
) -> None:
    projects.change(runtime.store, 7, options={"tokens_a_day": 1})
    read_and_train(7)
    read_and_train(8)
    assert (speakers[7].texts, speakers[8].texts) == (16, 80)
    assert budget.of(runtime.store, projects.get(runtime.store, 7)).paused
    assert not budget.of(runtime.store, projects.get(runtime.store, 8)).paused
    assert signals.costs(runtime.store, 8)["tiny"].prompt_tokens == 40 * 50
    tasks.upsert(runtime.store, 8, [Task(41, "new", "colour 41")])
    due.sweep(runtime)
    assert queues.enqueued(connection, "annotate", 8, "tiny")
    assert not queues.enqueued(connection, "annotate", 7, "tiny")


@pytest.mark.parametrize("options", [{"loop": {"strategie": "random"}}, {"tokens_a_day": "many"}, {"batch_size": 0}])
def test_options_that_cannot_be_used_stop_their_own_project_only(
    runtime: Runtime, connection: redis.Redis, options: dict[str, object]
) -> None:
    projects.change(runtime.store, 7, options=options)
    for _ in range(2):
        due.sweep(runtime)
    assert queues.enqueued(connection, "annotate", 8, "tiny")
    assert sum("nothing is queued" in line for line in said_of(runtime.store, 7)) == 1
    assert not any("nothing is queued" in line for line in said_of(runtime.store, 8))
    shown = view.status(runtime.store, connection)["projects"]
    assert [state["title"] for state in shown] == ["Pets", "Colours"]
    assert all(render.project_page(state, actions=None) for state in shown)


def test_labels_versions_and_batches_of_equal_task_numbers_never_mix(runtime: Runtime) -> None:
    read_and_train(7)
    read_and_train(8)
    before = versions.every(runtime.store, 8), projects.get(runtime.store, 8)
    rows = [Annotation(n, n, 1, "dog" if n % 2 else "cat", False, Provenance.EDITED) for n in range(1, 31)]
    labels.upsert(runtime.store, 7, rows)
    queues.request_training(runtime.connection, 7)
    jobs.train(7)
    jobs.train(8)
    assert (versions.every(runtime.store, 8), projects.get(runtime.store, 8)) == before
    assert len(versions.every(runtime.store, 7)) == 2
    assert labels.every(runtime.store, 8) == []
    own = projects.get(runtime.store, 8).published_version or ""
    assert {row.label for row in versions.predicted(runtime.store, 8, own).values()} <= {"red", "green", "blue"}
    assert versions.predicted(runtime.store, 7, own) == {}
    labels.tombstone(runtime.store, 8, [1, 2, 3])  # the other's annotation numbers
    assert len(labels.every(runtime.store, 7)) == 30


def test_one_project_training_keeps_no_lock_on_the_other(runtime: Runtime) -> None:
    with runtime.training_lock(7) as mine, runtime.training_lock(8) as others:
        assert mine
        assert others
    with runtime.training_lock(7):
        read_and_train(7)
        read_and_train(8)
    assert versions.every(runtime.store, 7) == []
    assert len(versions.every(runtime.store, 8)) == 1


def test_a_failing_job_holds_its_own_project_only(runtime: Runtime, connection: redis.Redis) -> None:
    projects.change(runtime.store, 7, options={"loop": {"aggregator": "none such"}})
    read_and_train(7)
    read_and_train(8)
    assert queues.held(connection, "train-7")
    assert not queues.held(connection, "train-8")


def test_a_webhook_wakes_its_own_project_only(app: Flask, other: Project, connection: redis.Redis) -> None:
    body = {"action": "ANNOTATION_CREATED", "project": {"id": 8}, "annotation": {"id": 5}, "task": {"id": 1}}
    answer = app.test_client().post("/webhook", json=body, headers={SECRET_HEADER: "hook"})
    assert answer.status_code < 300
    assert (queues.nudges(connection, 7), queues.nudges(connection, 8)) == (0, 1)
    assert queues.enqueued(connection, "reconcile", 8)
    assert not queues.enqueued(connection, "reconcile", 7)


def test_events_of_a_loud_project_do_not_push_out_a_quiet_ones(runtime: Runtime) -> None:
    events.add(runtime.store, "info", "the quiet one", 8)
    for n in range(30):
        events.add(runtime.store, "info", f"line {n}", 7)
        events.add(runtime.store, "info", f"of no project {n}")
    assert events.prune(runtime.store, 7, keep=10) == 20 + 20
    assert said_of(runtime.store, 7) == [f"line {n}" for n in range(29, 19, -1)]
    assert said_of(runtime.store, 8) == ["the quiet one"]
    assert events.prune(runtime.store, 8, keep=10) == 0
