"""Projects as their pages find them: one that two people taught (trained once for all tests), and an empty one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from pydantic import SecretStr

from mollm.records import Provenance
from mollm_backend import jobs
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.settings import Settings
from mollm_backend.store import Store, labels, projects
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import Project
from mollm_backend.view import project as view
from mollm_backend.work import queues
from tests.backend.conftest import CAT_DOG, CONFIG, PANEL, add_texts, connection, queue_url, settings, store

__all__ = ["connection", "queue_url", "settings", "store"]

TASKS, LABELLED, SHARED = 120, 40, 10


def say(store: Store, number: int, task: int, label: str | None, user: int = 1) -> None:
    """A person's label of a task, from scratch; None: a skip."""
    at = f"2026-01-01T00:{number // 60 % 60:02}:{number % 60:02}+00:00"
    skipped = label is None
    row = Annotation(number, task, user, label, skipped, Provenance.FROM_SCRATCH, created_at=at, updated_at=at)
    labels.upsert(store, 7, [row])


def truth(task: int) -> str:
    """What the texts of `add_texts` are about."""
    return "dog" if task % 2 else "cat"


def other(label: str) -> str:
    return "cat" if label == "dog" else "dog"


def save_project(store: Store, **values: Any) -> None:
    """Project 7, reconciled for ever."""
    given = {"panel": PANEL, "reconciled_at": "2999-01-01T00:00:00+00:00"} | values
    title, url = given.pop("title", "Pets"), given.pop("url", "http://ls")
    decisions = given.pop("decisions", CAT_DOG)
    projects.save(store, Project(7, url, title, "2026-01-01", CONFIG, decisions, **given))


def teach(store: Store) -> None:
    """Of 120 tasks one person labels 40, four of them wrong; another labels 10 of these, two of them wrong."""
    add_texts(store, TASKS)
    for task in range(1, LABELLED + 1):
        say(store, task, task, other(truth(task)) if task % 10 == 0 else truth(task))
        if task <= SHARED:
            say(store, 1000 + task, task, truth(task) if task > 2 else other(truth(task)), user=2)


@pytest.fixture(scope="session")
def taught(tmp_path_factory: pytest.TempPathFactory, queue_url: str) -> Iterator[Runtime]:
    """A worker's runtime on a project that was taught and trained. Tests read it and write nothing."""
    home: Path = tmp_path_factory.mktemp("taught")
    made = Settings(
        home=home, redis_url=queue_url, basic_auth_password=SecretStr("pass"), webhook_secret=SecretStr("hook")
    )
    opened, connection = Store(made.store_url), queues.connect(queue_url)
    connection.flushall()
    save_project(opened)
    teach(opened)
    runtime = Runtime(made, opened, connection)
    jobs.install(runtime)
    jobs.train(7)
    yield runtime
    opened.close()
    connection.close()


@pytest.fixture
def shown(taught: Runtime, connection: redis.Redis) -> dict[str, Any]:
    """The state of the page of the taught project."""
    return view.state(taught.store, connection, projects.get(taught.store, 7))
