"""One LLM that is down never stops the others; its gap is filled when it returns (issue 3, deliver 4)."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import redis

from mollm import recording
from mollm.records import Item, LabelSet, Signals
from mollm_backend import jobs
from mollm_backend.jobs import due
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.settings import Settings
from mollm_backend.store import Store, events, projects, signals, tasks, versions
from mollm_backend.store.tasks import Task
from mollm_backend.work import progress, queues
from tests.annotators.fake_server import FakeServer
from tests.annotators.listening import listening

TEXTS = [f"{'meow cat' if n % 2 else 'woof dog'} number {n:02d}" for n in range(24)]
PANEL = """
[[annotators]]
name = "steady"
runtime = "recording"
model = "{directory}"

[[annotators]]
name = "served"
runtime = "openai"
model = "fake"
url = "{url}"
prompt = "plain"
orders = 1
"""


@pytest.fixture
def port() -> Iterator[int]:
    """A port on which nobody listens, kept for the server that will."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield int(held.getsockname()[1])


@pytest.fixture
def runtime(settings: Settings, store: Store, connection: redis.Redis, port: int) -> Iterator[Runtime]:
    labels = LabelSet(("cat", "dog"))
    items = tuple(Item(str(n), text) for n, text in enumerate(TEXTS))
    probs = np.array([[[0.7, 0.3] if n % 2 else [0.3, 0.7]] for n in range(len(TEXTS))])
    said = Signals(tuple(item.id for item in items), ("steady",), labels.names, probs, probs)
    found = recording.Recording("r", labels, items, said, np.full(len(items), -1), 10, 0.7, 0.9)
    recording.save(settings.home / "r", found)
    written = settings.home / "panel.toml"
    written.write_text(PANEL.format(directory=settings.home / "r", url=f"http://127.0.0.1:{port}/v1"))
    opened = Runtime(settings.model_copy(update={"panel": written}), store, connection)
    jobs.install(opened)
    opened.refresh_panel(projects.get(store, 7))
    tasks.upsert(store, 7, [Task(n + 1, f"h{n}", text) for n, text in enumerate(TEXTS)])
    yield opened
    opened._annotators.close()


def owed(runtime: Runtime) -> dict[str, int]:
    project = projects.get(runtime.store, 7)
    return progress.count(runtime.store, project).left_by_name(project)


def queued(runtime: Runtime) -> bool:
    """Whether a sweep now asks the served one again."""
    due.sweep_project(runtime, projects.get(runtime.store, 7))
    return queues.enqueued(runtime.connection, "annotate", 7, "served")


def test_a_server_that_is_down_leaves_a_gap_that_is_filled(
    runtime: Runtime, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mollm.annotators._http._wait", lambda state: 0.0)
    now = time.time()
    monkeypatch.setattr("mollm_backend.jobs.due.time.time", lambda: now)
    jobs.annotate(7, "served")
    jobs.annotate(7, "steady")
    assert owed(runtime) == {"served": len(TEXTS), "steady": 0}
    assert any("served is away" in event.line for event in events.newest(runtime.store))
    assert due.why_train(runtime, projects.get(runtime.store, 7)) == "first version"
    jobs.train(7)  # the mixture copes with the one that answered
    first = versions.newest(runtime.store, 7)
    assert first is not None
    predicted = versions.predicted(runtime.store, 7, first.id).values()
    assert sum((row.label == "dog") == (row.task_id % 2 == 1) for row in predicted) == len(TEXTS)

    assert not queued(runtime)  # not before its time
    now += 60
    assert queued(runtime)

    fake = FakeServer()
    with listening(port, fake):
        jobs.annotate(7, "served")
        assert owed(runtime) == {"served": 0, "steady": 0}
        assert not signals.absent(runtime.store)
        asked = [text for text in TEXTS if any(text in str(body) for _, body in fake.requests)]
        assert asked == TEXTS
    reason = due.why_train(runtime, projects.get(runtime.store, 7))
    assert reason is not None
    assert "answers" in reason


def test_a_server_that_dies_on_the_way_keeps_what_it_said(
    runtime: Runtime, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chunks that were answered stay; nothing of the chunk that failed is stored as an abstention; asked once each."""
    monkeypatch.setattr("mollm.annotators._http._wait", lambda state: 0.0)
    runtime.settings = runtime.settings.model_copy(update={"chunk_texts": 8})
    fake = FakeServer()
    with listening(port, fake):
        crash = httpx.Response(500, json={"error": {"message": "EngineDeadError"}})
        dead = [False]

        def die(request: httpx.Request, body: object) -> httpx.Response | None:
            dead[0] = dead[0] or "number 13" in str(body)
            return crash if dead[0] else None

        fake.broken = die
        jobs.annotate(7, "served")
        assert owed(runtime)["served"] == len(TEXTS) - 8
        dead[0], fake.broken = False, lambda request, body: None
        fake.requests.clear()
        annotator = runtime.annotator(projects.get(runtime.store, 7), projects.get(runtime.store, 7).panel[1])
        annotator.server.each[0].circuit.succeeded()  # type: ignore[attr-defined]
        jobs.annotate(7, "served")
        assert owed(runtime)["served"] == 0
        assert not any(text in str(body) for text in TEXTS[-8:] for _, body in fake.requests)
    cost = signals.costs(runtime.store, 7)["served"]
    assert (cost.texts, cost.abstained) == (len(TEXTS), 0)


def test_on_one_card_models_are_asked_in_turn(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweep queues one model a card; the next follows when that one has read all. Others are not held up."""
    cards = {"steady": ("cuda", "one"), "served": ("cuda", "two")}
    monkeypatch.setattr(Runtime, "card", lambda self, member: cards[member.name])
    due.sweep_project(runtime, projects.get(runtime.store, 7))
    waiting = [queues.enqueued(runtime.connection, "annotate", 7, name) for name in cards]
    assert waiting == [True, False]
    jobs.annotate(7, "steady")
    assert queued(runtime)
