"""What stopped the work when it was attacked, one by one: each is told in a line, and the rest goes on."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NoReturn

import httpx
import pytest
import redis
import respx

from mollm.errors import ConfigError
from mollm.records import Provenance
from mollm_backend import jobs, settings
from mollm_backend.jobs import due
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.connect import disconnect
from mollm_backend.labelstudio.errors import OtherProject
from mollm_backend.settings import Settings
from mollm_backend.store import Store, events, labels, projects, signals, tasks, versions
from mollm_backend.store.labels import Annotation
from mollm_backend.store.tasks import Task
from mollm_backend.work import queues
from tests.annotators.fake_server import FakeServer
from tests.annotators.listening import listening
from tests.waiting import eventually

from .conftest import add_texts
from .test_gaps import port as port

PANEL = (
    '[[annotators]]\nname = "served"\nruntime = "openai"\nmodel = "fake"\nurl = "{url}"\nprompt = "plain"\norders = 1\n'
)


def label(store: Store, number: int, at: str) -> None:
    row = Annotation(number, number, 1, "cat", False, Provenance.FROM_SCRATCH, created_at=at, updated_at=at)
    labels.upsert(store, 7, [row])


def test_a_version_of_a_clock_that_was_ahead_is_followed_by_the_next(
    settings: Settings, store: Store, connection: redis.Redis
) -> None:
    runtime = Runtime(settings, store, connection)
    projects.change(store, 7, options={"batch_size": 10, "refit_every": 1, "loop": {"reserve": 10}})
    add_texts(store, 40)
    jobs.install(runtime)
    before = datetime.now(UTC) - timedelta(hours=1)
    label(store, 1, before.isoformat())
    jobs.train(7)
    ahead = versions.newest(store, 7)
    assert ahead is not None
    with store.write() as write:
        write.exec_driver_sql("UPDATE versions SET created_at = '2999-01-01T00:00:00+00:00'")
    label(store, 2, before.isoformat())
    # Whoever labelled an hour ago rests, whatever the version's clock said.
    assert (
        due.training_reason(store, projects.get(store, 7), 50)
        == "people rest, and 1 of their labels are new or changed"
    )
    jobs.train(7)
    after = versions.newest(store, 7)
    assert after is not None
    assert after.round == ahead.round + 1
    assert [row.id for row in versions.every(store, 7)] == [after.id, ahead.id]
    assert versions.newest_at(store, 7) == after.created_at
    assert due.training_reason(store, projects.get(store, 7), 1) is None


@pytest.fixture
def fake(port: int) -> Iterator[FakeServer]:
    found = FakeServer()
    with listening(port, found):
        yield found


@pytest.fixture
def runtime(settings: Settings, store: Store, connection: redis.Redis, port: int) -> Iterator[Runtime]:
    written = settings.home / "panel.toml"
    written.write_text(PANEL.format(url=f"http://127.0.0.1:{port}/v1") + "timeout = 1.0\n")
    opened = Runtime(settings.model_copy(update={"panel": written}), store, connection)
    jobs.install(opened)
    opened.refresh_panel(projects.get(store, 7))
    tasks.upsert(store, 7, [Task(n, f"h{n}", f"{'cat' if n % 2 else 'dog'} number {n}") for n in range(40)])
    yield opened
    opened._annotators.close()


def away(store: Store) -> str:
    (found,) = signals.absent(store).values()
    return found.reason


@pytest.mark.parametrize("where", ["/v1/models", "/v1/completions", "in the middle"])
def test_a_server_that_hangs_holds_the_worker_for_little_more_than_one_answer(
    runtime: Runtime, fake: FakeServer, where: str
) -> None:
    hanging = where != "in the middle"
    path = where if hanging else "/v1"

    def hang(request: httpx.Request, body: dict[str, object]) -> None:
        if hanging and request.url.path.startswith(path):
            time.sleep(8)

    fake.broken = hang
    if not hanging:
        jobs.annotate(7, "served")
        assert signals.absent(runtime.store) == {}
        tasks.upsert(runtime.store, 7, [Task(99, "h", "one more cat")])
        hanging = True
    begun = time.monotonic()
    jobs.annotate(7, "served")
    assert time.monotonic() - begun < 8
    assert "did not answer within 1 s" in away(runtime.store)
    begun = time.monotonic()
    jobs.annotate(7, "served")  # it is warm, and known to hang: it is asked for its models first
    assert time.monotonic() - begun < 8
    hanging = False

    def answers() -> bool:  # after some failures it is not asked for some seconds
        jobs.annotate(7, "served")
        return signals.absent(runtime.store) == {}

    assert eventually(answers, 60)


def test_a_job_that_takes_too_long_is_said_so_and_the_member_is_away(
    runtime: Runtime, fake: FakeServer, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_given: object) -> NoReturn:
        raise queues.TookTooLong("300 s")

    with monkeypatch.context() as patch:
        patch.setattr(Runtime, "annotator", stopped)
        jobs.annotate(7, "served")
    assert "it took too long (300 s)" in away(store)

    def mistaken(*_given: object) -> NoReturn:
        raise AttributeError("a mistake in a runtime")

    monkeypatch.setattr(Runtime, "annotator", mistaken)
    jobs.annotate(7, "served")
    assert "unexpected AttributeError" in away(store)


def test_a_full_disk_is_told_with_what_to_do(runtime: Runtime, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    add_texts(store, 40)

    def full(*_given: object) -> NoReturn:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/home/versions/x")

    monkeypatch.setattr("mollm_backend.jobs.predicting.predict", full)
    jobs.predict(7)
    said = events.newest(store, 1)[0].line
    assert "/home/versions/x cannot be written (No space left on device): free some space" in said


def test_a_project_that_was_deleted_there_can_be_disconnected(store: Store) -> None:
    with respx.mock:
        client = LabelStudioClient("http://ls", "key")
        respx.get("http://ls/api/projects/7/").mock(return_value=httpx.Response(404, json={"detail": "Not found."}))
        assert disconnect(store, client, 7) == (
            "project 7 is not on http://ls any more: there is nothing to put back there",
        )
    assert not projects.get(store, 7).connected


def test_what_is_on_another_server_is_not_taken_for_deleted(store: Store) -> None:
    projects.change(store, 7, connected=True)
    with respx.mock:
        client = LabelStudioClient("http://other", "key")
        respx.get("http://other/api/projects/7/").mock(return_value=httpx.Response(404, json={"detail": "Not found."}))
        with pytest.raises(OtherProject, match="LABEL_STUDIO_URL"):
            disconnect(store, client, 7)
    assert projects.get(store, 7).connected


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_home_that_takes_nothing_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def refused(path: Path, *_given: object, **_more: object) -> NoReturn:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(Path, "write_text", refused)
    with pytest.raises(ConfigError, match=rf"The home .* cannot be used: .*{os.strerror(number)}"):
        settings.load(tmp_path)
    assert not list((tmp_path / "secrets").iterdir())
    monkeypatch.undo()
    assert settings.load(tmp_path).webhook_secret.get_secret_value()


def test_a_worker_that_is_started_again_tries_at_once(
    settings: Settings, store: Store, connection: redis.Redis, tmp_path: Path
) -> None:
    for _ in range(8):
        queues.hold(connection, "reconcile-7")
    own = {"MOLLM_HOME": str(settings.home), "REDIS_URL": settings.redis_url, "LABEL_STUDIO_URL": "http://127.0.0.1:9"}
    process = subprocess.Popen([sys.executable, "-m", "mollm_backend.jobs.worker"], env=os.environ | own)
    try:
        eventually(lambda: not queues.held(connection, "reconcile-7"), 120)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("status", "words", "remedy"),
    [(404, "has no such thing", "`mollm disconnect` if a project was deleted there"),
     (401, "refused the legacy token", "copy a valid one from Account & Settings into LABEL_STUDIO_API_KEY")],
)  # fmt: skip
def test_a_project_or_a_token_that_goes_while_a_training_runs_is_told_and_nothing_is_lost(
    settings: Settings, store: Store, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch,
    status: int, words: str, remedy: str,
) -> None:  # fmt: skip
    runtime = Runtime(settings, store, connection)
    runtime._client = LabelStudioClient("http://ls", "key")
    jobs.install(runtime)
    add_texts(store, 40)
    label(store, 1, "2026-01-01T00:00:00+00:00")
    projects.change(store, 7, connected=True, options={"batch_size": 10, "loop": {"reserve": 10}})
    jobs.train(7)  # it needs nothing of Label Studio: it ends, and its version is stored
    made = versions.newest(store, 7)
    assert made is not None
    with respx.mock:
        respx.route().mock(return_value=httpx.Response(status, json={"detail": "no"}))
        jobs.publish(7)
        jobs.reconcile(7)
    said = [row.line for row in events.newest(store, 50) if row.kind == "problem"]
    assert [line.split(":")[0] for line in said] == ["reconcile", "publish"]
    assert all(words in line and remedy in line and "next try in" in line and "\n" not in line for line in said)
    assert len(tasks.every(store, 7)) == 40
    assert [row.label for row in labels.every(store, 7)] == ["cat"]
    assert projects.get(store, 7).published_version == made.id
