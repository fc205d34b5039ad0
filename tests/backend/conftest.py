"""A real Valkey and a store with one project of made-up animals."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import redis
from flask import Flask
from pydantic import SecretStr

from mollm.records import LabelSet
from mollm_backend.settings import Settings
from mollm_backend.store import Store, projects, signals, tasks
from mollm_backend.store.decisions import Decision, Source
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.signals import Cost, SignalRow
from mollm_backend.store.tasks import Task
from mollm_backend.web.app import create_app
from mollm_backend.work import queues

from ..queue_server import REDIS, queue_server

CONFIG = (
    '<View><Text name="text" value="$text"/><Choices name="label" toName="text" choice="single-radio">'
    '<Choice value="cat"/><Choice value="dog"/></Choices></View>'
)
CAT_DOG = (Decision("label", (Source("text", "text"),), LabelSet(("cat", "dog"))),)
PANEL = (PanelMember("tiny", "f-tiny"), PanelMember("small", "f-small"))


@pytest.fixture(scope="session")
def queue_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A real Valkey, or Redis where a test asks for it."""
    kind = getattr(request, "param", "valkey")
    if kind == "redis" and REDIS is None:
        pytest.skip("Redis is not installed (Debian: redis-server)")
    with queue_server(kind) as url:
        yield url


@pytest.fixture
def connection(queue_url: str) -> Iterator[redis.Redis]:
    opened = queues.connect(queue_url)
    opened.flushall()
    yield opened
    opened.close()


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    """A command finds the store and the queue of the test."""
    monkeypatch.setenv("MOLLM_HOME", str(settings.home))
    monkeypatch.setenv("REDIS_URL", settings.redis_url)


# What a decision rests on, in SQL: these run on PostgreSQL too. Of each file, the tests whose names begin so: in
# `test_recheck` each trains first, and the others differ in nothing that a database sees.
ON_BOTH = {
    "test_accept": "",
    "test_accept_whole": "",
    "test_audit": "",
    "test_pins": "",
    "test_recheck": "test_a_tab_shows",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    begins = ON_BOTH.get(metafunc.module.__name__.rpartition(".")[2])
    named = begins is not None and metafunc.function.__name__.startswith(begins)
    if named and "database_url" in metafunc.fixturenames:
        metafunc.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def settings(tmp_path: Path, queue_url: str, database_url: str) -> Settings:
    return Settings(
        home=tmp_path, redis_url=queue_url, database_url=database_url,
        basic_auth_password=SecretStr("pass"), webhook_secret=SecretStr("hook"),
    )  # fmt: skip


@pytest.fixture
def store(settings: Settings) -> Store:
    opened = Store(settings.store_url)
    project = Project(
        7, "http://ls", "Pets", "2026-01-01", CONFIG, CAT_DOG, PANEL, reconciled_at="2999-01-01T00:00:00+00:00"
    )
    projects.save(opened, project)
    return opened


@pytest.fixture
def app(settings: Settings, store: Store, connection: redis.Redis) -> Flask:
    return create_app(settings, store, connection)


def add_texts(store: Store, count: int, seed: int = 0) -> list[Task]:
    """Tasks that name their animal, read by both annotators: `tiny` is right in 3 of 4, `small` in 9 of 10."""
    rng = np.random.default_rng(seed)
    rows = [Task(n + 1, f"hash-{n}", f"{'meow' if n % 2 else 'woof'} number {n}") for n in range(count)]
    tasks.upsert(store, 7, rows)
    for member, skill in zip(PANEL, (0.75, 0.9), strict=True):
        answers = []
        for n, task in enumerate(rows):
            truth = 0 if n % 2 else 1
            said = truth if rng.random() < skill else 1 - truth
            probs = np.full(2, 0.2)
            probs[said] = 0.8
            answers.append(SignalRow(task.item.text_key, probs, probs))
        signals.save(store, member, 7, answers, Cost(calls=1, texts=count))
    return rows
