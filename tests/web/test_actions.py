"""A button is done by a worker for whoever holds the page's token, and by nobody else."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import numpy as np
import pytest
import redis
from flask import Flask
from pydantic import SecretStr

from mollm_backend import jobs
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.jobs.worker import Worker
from mollm_backend.settings import Settings
from mollm_backend.store import Store, audits, batches, events, projects, versions
from mollm_backend.web import security
from mollm_backend.web.app import create_app
from mollm_backend.work import queues, workers
from tests.backend.test_jobs import label

from .conftest import BASIC, HTML, Browser, audit_lines, queued

Work = Callable[[], None]


def ids(store: Store) -> list[str]:
    """The versions, oldest first."""
    return [row.id for row in reversed(versions.every(store, 7))]


def refit(store: Store) -> None:
    label(store, *range(1, 21))
    jobs.train(7)


@pytest.mark.parametrize("project", [7, 99])
def test_without_the_right_token_nothing_is_queued(
    app: Flask, settings: Settings, connection: redis.Redis, project: int
) -> None:
    today = security.today()
    good = security.token(settings, "mollm", today)
    wrong = {
        "missing": None,
        "empty": "",
        "wrong": good[:-1] + ("0" if good[-1] != "0" else "1"),
        "of another user": security.token(settings, "somebody", today),
        "of another password": security.token(
            settings.model_copy(update={"basic_auth_password": SecretStr("x")}), "mollm", today
        ),
        "old": security.token(settings, "mollm", today - timedelta(days=2)),
        "of tomorrow": security.token(settings, "mollm", today + timedelta(days=1)),
        "an old one with today's date": f"{today}.{security.token(settings, 'mollm', today - timedelta(days=2))[11:]}",
        "not ASCII": "ä\U0001f600",
    }
    for name, value in wrong.items():
        data = {} if value is None else {"csrf": value}
        answer = app.test_client().post(f"/projects/{project}/train", data=data, headers=BASIC | HTML)
        assert answer.status_code == 403, name
        assert "nothing was done" in answer.text
    in_address = app.test_client().post(f"/projects/{project}/train?csrf={good}", headers=BASIC)
    assert in_address.status_code == 403, "an address is written into logs"
    assert not queued(connection)


def test_a_token_of_yesterday_still_works(app: Flask, settings: Settings, connection: redis.Redis) -> None:
    token = security.token(settings, "mollm", security.today() - timedelta(days=1))
    answer = app.test_client().post("/projects/7/train", data={"csrf": token}, headers=BASIC)
    assert answer.status_code == 303
    assert len(queued(connection)) == 1


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Sec-Fetch-Site": "cross-site"}, 403), ({"Sec-Fetch-Site": "same-site"}, 403),
     ({"Sec-Fetch-Site": "cross-site", "Origin": "http://localhost"}, 403), ({"Origin": "http://evil.example"}, 403),
     ({"Origin": "null"}, 403), ({"Origin": "http://localhost:8080"}, 403), ({"Origin": "http://localhost"}, 303),
     ({"Sec-Fetch-Site": "same-origin"}, 303), ({"Sec-Fetch-Site": "none"}, 303), ({}, 303),
     # Behind a proxy that writes another Host the browser's own word counts.
     ({"Sec-Fetch-Site": "same-origin", "Origin": "https://mollm.example"}, 303)],
)  # fmt: skip
def test_a_post_from_another_site_is_refused(
    browser: Browser, connection: redis.Redis, headers: dict[str, str], status: int
) -> None:
    answer = browser.press("train", headers=headers)
    assert answer.status_code == status
    assert bool(queued(connection)) == (status == 303)
    assert ("another site" in answer.text) == (status == 403)


def test_the_backends_own_address_is_its_origin_too(app: Flask, settings: Settings, connection: redis.Redis) -> None:
    proxied = settings.model_copy(update={"backend_url": "https://mollm.example/"})
    browser = Browser(create_app(proxied, Store(settings.store_url), connection))
    assert browser.press("train", headers={"Origin": "https://mollm.example"}).status_code == 303
    assert browser.press("train", headers={"Origin": "https://other.example"}).status_code == 403


def test_the_webhooks_secret_is_no_way_to_an_action(app: Flask, settings: Settings) -> None:
    data = {"csrf": security.token(settings, "mollm", security.today())}
    answer = app.test_client().post("/projects/7/train", data=data, headers={"X-Mollm-Secret": "hook"})
    assert answer.status_code == 401


def test_get_does_nothing(browser: Browser, connection: redis.Redis) -> None:
    assert browser.get(f"/projects/7/train?csrf={browser.token()}").status_code in (404, 405)
    assert not queued(connection)


def test_the_browser_goes_back_to_the_page_which_says_what_happens(
    browser: Browser, connection: redis.Redis, runtime: Runtime
) -> None:
    answer = browser.press("train")
    assert (answer.status_code, answer.headers["Location"]) == (303, "/projects/7?said=waits")
    assert "no worker is running" in browser.get(answer.headers["Location"]).text
    worker = Worker([queues.queue(connection, "publish")], connection=connection, name=workers.worker_name())
    worker.register_birth()
    answer = browser.press("train")
    assert answer.headers["Location"] == "/projects/7?said=again"
    answer = browser.press("unpin")
    assert answer.headers["Location"] == "/projects/7?said=asked"
    page = browser.get(answer.headers["Location"]).text
    assert "A worker does it when it is free" in page
    assert "No worker is running" not in page
    assert "<marquee" not in browser.get("/projects/7?said=<marquee>x").text
    assert len(queued(connection)) == 2


def test_a_rollback_pins_and_says_who_asked(
    browser: Browser, store: Store, runtime: Runtime, work: Work, connection: redis.Redis
) -> None:
    refit(store)
    first, second = ids(store)
    assert browser.press("rollback", version=first).status_code == 303
    assert projects.get(store, 7).published_version == second, "the web process writes nothing"
    work()
    now = projects.get(store, 7)
    assert (now.published_version, now.batch_version) == (first, batches.newest(store, 7, first))
    assert now.pin
    assert audit_lines(store) == [f"mollm asked for a rollback to {first}: done. The project is {now.pin}."]
    assert f"mollm asked for a rollback to {first}" in browser.get("/").text
    assert browser.press("unpin").status_code == 303
    work()
    assert not projects.get(store, 7).pin
    assert audit_lines(store)[0].startswith("mollm asked for the end of the pin: done. Unpinned. No version was held")
    assert browser.press("unpin").status_code == 303
    work()
    assert "nothing to do" in audit_lines(store)[0]


def test_a_training_that_would_learn_nothing_is_not_asked_for(
    browser: Browser, store: Store, runtime: Runtime, work: Work
) -> None:
    browser.press("train")
    work()
    assert not queues.training_requested(runtime.connection, 7)
    assert audit_lines(store)[0].startswith("mollm asked for a training: not done. People have not labelled any task")


def test_training_is_asked_for(browser: Browser, store: Store, runtime: Runtime, work: Work) -> None:
    label(store, 1, 2, 3)
    assert not queues.training_requested(runtime.connection, 7)
    browser.press("train")
    assert not queues.training_requested(runtime.connection, 7)
    work()
    assert queues.training_requested(runtime.connection, 7)
    assert queues.enqueued(runtime.connection, "reconcile", 7), "the labels are read first"
    assert audit_lines(store)[0].startswith("mollm asked for a training: noted.")


def test_an_audit_of_n_labels_is_drawn(browser: Browser, store: Store, runtime: Runtime, work: Work) -> None:
    browser.press("audit", labels=" 12 ")
    work()
    audit = audits.newest(store, 7, status=audits.OPEN)
    assert audit is not None
    assert (sum(part.labels for part in audit.parts), audit.target) == (12, None)
    batch = batches.entries(store, 7, projects.get(store, 7).batch_version or "")
    assert sum(row.blind for row in batch) == 12
    assert audit_lines(store)[0].startswith(f"mollm asked for an audit of 12 tasks: done. {audit.id} is drawn")
    again = browser.press("audit", labels="5")
    assert again.status_code == 400
    assert f"{audit.id} is open" in again.text


def test_more_labels_than_open_tasks_are_refused_by_the_worker_who_says_so(
    browser: Browser, store: Store, runtime: Runtime, work: Work
) -> None:
    browser.press("audit", labels="41")
    work()
    assert audits.newest(store, 7) is None
    assert "an audit of 41 tasks: not done. 41 audits need as many open tasks: there are 40" in audit_lines(store)[0]


def test_a_job_that_failed_is_tried_again_at_once(
    browser: Browser, store: Store, runtime: Runtime, work: Work, connection: redis.Redis
) -> None:
    label(store, *range(1, 21))
    projects.change(store, 7, options={"refit_every": 10, "batch_size": 10, "loop": {"reserve": 10}})
    queues.hold(connection, "train-7")
    queues.hold(connection, "train-8")
    for other in ("train-8", "reconcile-7", ""):
        answer = browser.press("retry", job=other)
        assert answer.status_code == 400
        assert "does not fail" in answer.text
    assert not queued(connection)
    assert browser.press("retry", job="train-7").status_code == 303
    work()
    assert queues.failing(connection) == {"train-8": 1}
    assert queues.enqueued(connection, "train", 7), "the sweep after the action finds it due"
    assert audit_lines(store) == ["mollm asked for another try of train-7: done. train-7 is tried again now."]


@pytest.mark.parametrize("text", ["", "0", "-3", "1.5", "1e3", "abc", "9" * 30, "１２", "<b>1", "10 000", "2000000"])
def test_a_number_that_is_none_is_refused(
    browser: Browser, runtime: Runtime, connection: redis.Redis, text: str
) -> None:
    answer = browser.press("audit", labels=text)
    assert answer.status_code == 400
    assert "whole number" in answer.text
    assert "<b>1" not in answer.text
    assert not queued(connection)


def test_what_cannot_be_done_is_said_and_not_queued(
    browser: Browser, store: Store, connection: redis.Redis, runtime: Runtime
) -> None:
    versions.save(store, 7, versions.Version("refused", 1, "refused", 0), [])
    for action, fields, status, what in (
        ("rollback", {"version": "none"}, 400, "has no version"),
        ("rollback", {}, 400, "has no version"),
        ("rollback", {"version": "refused"}, 400, "the gate refused it"),
        ("nothing", {}, 400, "There is no action"),
    ):
        answer = browser.press(action, **fields)
        assert (answer.status_code, what in answer.text) == (status, True), (action, answer.text)
        assert 'href="/projects/7"' in answer.text
    for number in (99, 10**30):
        answer = browser.press("train", project=number)
        assert (answer.status_code, f"Project {number} is not connected" in answer.text) == (404, True)
    for strange in ("\0", "\ud800", "a\nb", "x" * 301, "\u202e"):
        assert browser.press("rollback", version=strange.encode("utf-8", "replace").decode()).status_code == 400
    token = browser.token()
    projects.change(store, 7, connected=False)
    for action in ("train", "unpin", "audit", "rollback", "retry"):
        answer = browser.press(action, csrf=token)
        assert answer.status_code == 400
        assert "is disconnected" in answer.text
    assert not queued(connection)
    assert not audit_lines(store)


def test_a_project_without_a_version_has_nothing_to_audit(browser: Browser, connection: redis.Redis) -> None:
    assert "no published version" in browser.press("audit", labels="5").text
    assert not queued(connection)


def test_what_becomes_impossible_meanwhile_is_not_done_and_said(
    browser: Browser, store: Store, runtime: Runtime, work: Work
) -> None:
    refit(store)
    first, second = ids(store)
    browser.press("rollback", version=first)
    projects.change(store, 7, connected=False)
    work()
    assert projects.get(store, 7).published_version == second
    assert audit_lines(store)[0].startswith(f"mollm asked for a rollback to {first}: not done. Project 7 is disconn")


def test_an_unexpected_error_is_said_and_not_tried_again(
    browser: Browser, store: Store, runtime: Runtime, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_args: object) -> None:
        raise ZeroDivisionError

    label(store, 1)
    monkeypatch.setattr(queues, "request_training", broken)
    browser.press("train")
    work()
    assert audit_lines(store) == [
        "mollm asked for a training: not done. Unexpected ZeroDivisionError: see the worker's log"
    ]
    assert not queues.failing(runtime.connection), "a button is not pressed again by itself"


def test_the_web_process_writes_no_row(browser: Browser, store: Store, runtime: Runtime) -> None:
    def content() -> list[str]:
        with store.read() as opened:
            return list(opened.connection.driver_connection.iterdump())  # type: ignore[union-attr]

    before = content()
    for action, fields in (
        ("train", {}),
        ("unpin", {}),
        ("audit", {"labels": "5"}),
        ("rollback", {"version": ids(store)[0]}),
    ):
        assert browser.press(action, **fields).status_code == 303
    assert content() == before


def test_who_did_what_is_not_forgotten_with_the_other_lines(store: Store) -> None:
    events.add(store, events.ACTION, "mollm asked for a training: noted", 7)
    for n in range(5):
        events.add(store, "info", f"line {n}", 7)
    assert events.prune(store, 7, keep=2) == 3
    assert [row.kind for row in events.newest(store)] == ["info", "info", events.ACTION]


def test_a_queue_that_is_away_is_said(
    browser: Browser, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_args: object, **_kwargs: object) -> None:
        raise redis.ConnectionError("no")

    token = browser.token()
    monkeypatch.setattr(queues, "enqueue", gone)
    answer = browser.press("train", csrf=token)
    assert answer.status_code == 503
    assert "restart" in answer.text


def test_no_form_breaks_the_backend(browser: Browser, store: Store, runtime: Runtime, work: Work) -> None:
    rng, token = np.random.default_rng(12), browser.token()
    words = [
        "",
        "7",
        "-1",
        "v1",
        ids(store)[0],
        "train-7",
        "x" * 5000,
        "\0",
        "\u202e",
        "<b>",
        "1e9",
        "\U0001f600",
        "%00",
    ]
    actions = ["rollback", "unpin", "train", "retry", "audit", "act", "\u202e", "%2e%2e"]
    taken = 0
    for _ in range(300):
        fields = {name: words[rng.integers(len(words))] for name in ("version", "job", "labels") if rng.random() < 0.7}
        answer = browser.press(actions[rng.integers(len(actions))], csrf=token, **fields)
        assert answer.status_code in (303, 400, 404), answer.text
        taken += answer.status_code == 303
    assert taken > 50
    work()
    assert all("asked for" in line for line in audit_lines(store))
    assert not [line for line in audit_lines(store) if "nexpected" in line]
