"""The list of all projects: a line each, read at once, with what waits and what is wrong."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import redis
import sqlalchemy as sa
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from mollm_backend.jobs import acting, due
from mollm_backend.jobs.audit_outlook import Wanted
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.store import Store, audits, events, projects, schema, signals
from mollm_backend.work import noting, queues
from mollm_backend.work.actions import Asked
from tests.backend.conftest import CAT_DOG, CONFIG, PANEL, add_texts
from tests.backend.test_jobs import label

from .conftest import Browser


def row(browser: Browser) -> dict[str, object]:
    found = browser.get("/index.json").json["projects"]  # type: ignore[index]
    assert len(found) == 1
    return dict(found[0])


def test_a_stranger_reads_what_to_do(browser: Browser, store: Store) -> None:
    with store.write() as connection:
        connection.execute(schema.projects.delete())
    page = browser.get("/").text
    assert "mollm connect N" in page
    assert browser.get("/index.json").json["projects"] == []  # type: ignore[index]


def test_a_project_says_how_far_it_is(browser: Browser, store: Store, connection: redis.Redis) -> None:
    assert row(browser)["state"] == "no tasks yet"
    add_texts(store, 40)
    connection.flushall()
    assert row(browser)["state"] == "no version yet"
    projects.change(store, 7, panel=[{"name": "new", "fingerprint": "f-new", "decision": ""}])
    assert row(browser)["state"] == "reading: 0 % of the panel's answers"


def test_a_project_says_what_waits_and_what_is_done(browser: Browser, store: Store, runtime: Runtime) -> None:
    version = projects.get(store, 7).published_version
    found = row(browser)
    assert found["state"] == f"{version}, from 0 human labels"
    assert (found["labelled"], found["tasks"], found["waits"]) == (0, 40, "20 tasks wait in the batch")
    assert (found["warning"], found["more_warnings"]) == ("", 0)
    label(store, *range(1, 11))
    assert row(browser)["labelled"] == 0, "a worker counts"
    due.sweep_project(runtime, projects.get(store, 7))
    found = row(browser)
    assert found["labelled"] == 10
    page = browser.get("/").text
    assert 'value="10" max="40"' in page
    assert "10 of 40" in page
    assert 'href="/projects/7"' in page
    acting.draw(store, Asked(7, "audit", "5", "x"), Wanted(labels=5, seed=1))
    left = len(audits.pending(store, 7))
    assert left == 5
    assert str(row(browser)["waits"]).endswith("tasks wait in the batch, 5 in the audit")


def test_what_runs_is_told_with_how_far_it_is(
    browser: Browser, store: Store, runtime: Runtime, connection: redis.Redis
) -> None:
    queues.enqueue(connection, "train", "train", 7)
    names = [queues.queue(connection, "train")]
    worker = SimpleWorker(names, connection=connection, name="here.1.1", serializer=JSONSerializer)
    job, _queue = worker.dequeue_job_and_maintain_ttl(timeout=1)
    worker.prepare_execution(job)
    with noting.noted(connection, 7, "training", 4, done=1):
        assert str(row(browser)["state"]).startswith("training: 1 of 4, for 0 s")
    assert "train-7" in browser.get("/").text


def test_one_warning_is_shown_the_worst_first(browser: Browser, store: Store, connection: redis.Redis) -> None:
    queues.hold(connection, "train-7")
    queues.hold(connection, "train-77")
    found = row(browser)
    assert (found["warning"], found["more_warnings"]) == ("the worker failed 1 time, at last: train", 0)
    signals.mark_absent(store, "f-tiny", "it is down <b>")
    projects.change(store, 7, attention="the label config has changed")
    found = row(browser)
    assert (found["warning"], found["more_warnings"]) == ("the label config has changed", 2)
    page = browser.get("/").text
    assert "and 2 more" in page
    projects.change(store, 7, connected=False)
    found = row(browser)
    assert (found["state"], found["warning"], found["waits"]) == ("disconnected", "", "")


def test_what_stands_between_backticks_is_code(browser: Browser, store: Store) -> None:
    projects.change(store, 7, attention="run `mollm <b> 7` again & `again")
    assert "run `mollm &lt;b&gt; 7` again &amp; `again" in browser.get("/").text, "one backtick has no other"
    projects.change(store, 7, attention="run `mollm <b> 7` again")
    assert "run <code>mollm &lt;b&gt; 7</code> again" in browser.get("/").text


def test_names_with_markup_are_text(browser: Browser, store: Store) -> None:
    bad = "<img src=x onerror=alert(1)>\"'&\U0001f600\u202e" + "x" * 300
    projects.change(store, 7, title=bad, attention=bad)
    events.add(store, "problem", bad, 7)
    for path in ("/", "/projects/7"):
        page = browser.get(path).text
        assert "<img" not in page
        assert "&lt;img src=x" in page


def test_a_queue_that_is_away_leaves_the_list(
    browser: Browser, runtime: Runtime, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_args: object, **_kwargs: object) -> None:
        raise redis.ConnectionError("no")

    monkeypatch.setattr(connection, "execute_command", gone)
    answer = browser.get("/")
    assert answer.status_code == 200
    assert "the queue is not reachable" in answer.text
    assert "Pets" in answer.text


def test_fifty_projects_are_read_by_a_handful_of_statements(
    browser: Browser, store: Store, runtime: Runtime, connection: redis.Redis
) -> None:
    first = projects.get(store, 7)
    for n in range(100, 149):
        projects.save(
            store, replace(first, id=n, title=f"Project {n}", label_config=CONFIG, decisions=CAT_DOG, panel=PANEL)
        )
    browser.get("/")  # what no worker has noted is counted once
    told: list[str] = []
    sa.event.listen(store.engine, "before_cursor_execute", lambda *args: told.append(args[2]))
    started = time.perf_counter()
    page = browser.get("/").text
    seconds = time.perf_counter() - started
    assert page.count('class="title ') == 50
    assert sum(statement != "BEGIN" for statement in told) < 12, told
    assert seconds < 2  # bounds a hang; the figure is measured by hand
