"""An LLM's answer that fails is said with what helps, and asked again once the server can answer it."""

from __future__ import annotations

import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
import redis

from mollm_backend import jobs
from mollm_backend.doctor import work
from mollm_backend.jobs import failing
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.settings import Settings
from mollm_backend.store import Store, answer_errors, events, projects, signals, tasks
from mollm_backend.store.projects import Project
from mollm_backend.store.tasks import Task
from tests.annotators.fake_server import FakeServer
from tests.annotators.listening import listening

from .test_gaps import port as port

PANEL = (
    '[[annotators]]\nname = "served"\nruntime = "openai"\nmodel = "fake"\nurl = "{url}"\nprompt = "plain"\norders = 1\n'
)


@pytest.fixture
def fake(port: int) -> Iterator[FakeServer]:
    found = FakeServer()
    with listening(port, found):
        yield found


@pytest.fixture
def runtime(settings: Settings, store: Store, connection: redis.Redis, port: int) -> Iterator[Runtime]:
    written = settings.home / "panel.toml"
    written.write_text(PANEL.format(url=f"http://127.0.0.1:{port}/v1"))
    opened = Runtime(settings.model_copy(update={"panel": written}), store, connection)
    jobs.install(opened)
    opened.refresh_panel(projects.get(store, 7))
    tasks.upsert(store, 7, [Task(n, f"h{n}", f"{'cat' if n % 2 else 'dog'} number {n}") for n in range(8)])
    yield opened
    opened._annotators.close()


def refuse(words: str, status: int = 400) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": words}})


def project(runtime: Runtime) -> Project:
    return projects.get(runtime.store, 7)


def problems_of(runtime: Runtime) -> dict[str, int]:
    return {row.kind: row.texts for row in answer_errors.problems(runtime.store, project(runtime))}


def test_what_a_server_refuses_is_said_and_asked_again_when_it_does_not_any_more(
    runtime: Runtime, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(request: httpx.Request, body: dict[str, object]) -> httpx.Response | None:
        probing = "A short text" in str(body.get("prompt")) or request.url.path != "/v1/completions"
        return None if probing else refuse("the maximum context length is 4")

    fake.broken = full
    jobs.annotate(7, "served")
    assert problems_of(runtime) == {"window": 8}
    said = [event.line for event in events.newest(runtime.store) if event.kind == "problem"]
    assert len(said) == 1
    assert "--max-model-len" in said[0]
    (finding,) = [row for row in work.examine(runtime.store, runtime.settings, [project(runtime)])
                  if row.name == "answers-failed"]  # fmt: skip
    assert "could not answer 8 texts (window)" in finding.line
    assert "mollm prelabel 7 --again" in finding.fix

    fake.broken = lambda request, body: None
    failing.try_some(runtime, project(runtime))
    jobs.annotate(7, "served")
    assert problems_of(runtime) == {"window": 8}, "not before its time"
    later = time.time() + 700
    monkeypatch.setattr("mollm_backend.store.answer_errors.time.time", lambda: later)
    fake.requests.clear()
    failing.try_some(runtime, project(runtime))
    jobs.annotate(7, "served")  # the trial; it is answered, so the others are asked in the same job
    assert ("/v1/models", {}) in fake.requests, "the server is probed anew"
    assert problems_of(runtime) == {}
    read = signals.load(runtime.store, project(runtime), list(tasks.some(runtime.store, 7, list(range(8))).values()))
    assert read.label_probs[:, 0].argmax(axis=1).tolist() == [1, 0] * 4
    assert np.allclose(read.label_probs.sum(axis=2), 1)


def test_a_text_that_always_fails_stays_failed_and_waits_longer(runtime: Runtime, fake: FakeServer) -> None:
    def poison(request: httpx.Request, body: dict[str, object]) -> httpx.Response | None:
        return refuse("this content is not allowed") if "number 3" in str(body.get("prompt")) else None

    fake.broken = poison
    jobs.annotate(7, "served")
    assert problems_of(runtime) == {"refused": 1}
    answer_errors.try_at_once(runtime.store)
    failing.try_some(runtime, project(runtime))
    jobs.annotate(7, "served")
    assert problems_of(runtime) == {"refused": 1}
    failing.try_some(runtime, project(runtime))
    assert signals.unanswered(runtime.store, 7, project(runtime).panel[0].fingerprint) == 0
    assert len([event for event in events.newest(runtime.store) if event.kind == "problem"]) == 1, "said once"
