"""A project that was trained on labels of two people, and the queue that its pages ask."""

from __future__ import annotations

import pytest
import redis

from mollm.records import Provenance
from mollm_backend import jobs
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.settings import Settings
from mollm_backend.store import Store, labels
from mollm_backend.store.labels import Annotation
from mollm_backend.work import queues
from tests.backend.conftest import add_texts, connection, settings, store, valkey_url

__all__ = ["connection", "settings", "store", "valkey_url"]

TASKS, LABELLED, SHARED = 120, 40, 10


def say(store: Store, number: int, task: int, label: str | None, user: int = 1) -> None:
    """A person's label of a task, from scratch; None: a skip."""
    at = f"2026-01-01T00:{number // 60:02}:{number % 60:02}+00:00"
    row = Annotation(
        number, task, user, label, label is None, Provenance.FROM_SCRATCH, created_at=at, updated_at=at
    )  # fmt: skip
    labels.upsert(store, 7, [row])


@pytest.fixture
def runtime(settings: Settings, store: Store, connection: redis.Redis) -> Runtime:
    made = Runtime(settings, store, connection)
    jobs.install(made)
    return made


@pytest.fixture
def trained(runtime: Runtime) -> Store:
    """Of 120 tasks one person has labelled 40 and another 10 of these; of the 40 labels 4 are wrong."""
    store = runtime.store
    add_texts(store, TASKS)
    for task in range(1, LABELLED + 1):
        truth, other = ("dog", "cat") if task % 2 else ("cat", "dog")
        say(store, task, task, other if task % 10 == 0 else truth)
        if task <= SHARED:
            say(store, 1000 + task, task, truth if task > 2 else other, user=2)
    queues.request_training(runtime.connection, 7)
    jobs.train(7)
    return store
