"""The page of one project: each figure with its n and interval, each question answered, each state in words."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import redis
import sqlalchemy as sa

from mollm.records import LabelSet
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.store import Store, batches, events, projects, signals, tasks, versions
from mollm_backend.store.decisions import Decision, Source
from mollm_backend.store.tasks import Task
from mollm_backend.view import project as view
from mollm_backend.view import render
from mollm_backend.work import noting, queues
from tests.backend.conftest import PANEL, add_texts
from tests.e2e.payloads import PAYLOADS
from tests.view.conftest import LABELLED, SHARED, TASKS, save_project, say
from tests.view.reading import Page

BUTTONS = render.Actions("a-token")


def state(store: Store, connection: redis.Redis) -> dict[str, Any]:
    return view.state(store, connection, projects.get(store, 7))


def page(found: dict[str, Any], actions: render.Actions | None = None) -> Page:
    return Page(render.project_page(found | {"said": "", "no_worker": False}, actions=actions))


def publish(
    store: Store, count: int = 6, label: str = "dog", size: int = 2, options: Any = None, facts: Any = None
) -> None:
    """A published version of `count` texts, in a batch in the order of their numbers."""
    rows = add_texts(store, count)
    known = [versions.StoredPrediction(row.task_id, row.text_key, label, 0.9, np.array([0.1, 0.9])) for row in rows]
    versions.save(store, 7, versions.Version("v1", 0, "candidate", 3, facts or {}), known)
    entries = [batches.StoredEntry(row.task_id, n, "v1", label, 0.9, "they differ") for n, row in enumerate(rows)]
    batches.save(store, 7, "v1+batch-1", entries)
    versions.publish(store, 7, "v1", "v1+batch-1")
    projects.change(store, 7, options={"batch_size": size} | (options or {}))


def figures(found: Any, where: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Everything in a state that has a value."""
    if isinstance(found, dict):
        if "value" in found:
            yield where, found
        for key, part in found.items():
            yield from figures(part, f"{where}/{key}")
    elif isinstance(found, list):
        for n, part in enumerate(found):
            yield from figures(part, f"{where}/{n}")


def test_every_figure_has_its_n_and_its_interval_or_says_why_not(shown: dict[str, Any]) -> None:
    told = [(where, one) for where, one in figures(shown) if not where.startswith("/people/")]
    assert len(told) > 30
    for where, one in told:
        assert isinstance(one["n"], int), where
        if one["value"] is None:
            assert one["n"] == 0 or one.get("reason"), where
        elif not (where.startswith("/accuracy/") and one.get("measured") is False):
            assert one["low"] <= one["value"] <= one["high"], where


def test_what_was_not_measured_is_called_a_guess(shown: dict[str, Any]) -> None:
    now = shown["accuracy"]["now"]
    assert (now["measured"], now["low"], now["n"]) == (False, None, TASKS - LABELLED)
    assert now["of"] == "its own guess, not measured"
    told = page(shown).within["accuracy"]
    assert "expects to be right" in told
    assert "Nobody has measured it on the rest: mollm audit 7 does." in told
    assert "which were chosen for being hard" in shown["accuracy"]["baseline"]["of"]
    (decision,) = shown["decisions"]
    assert decision["of"] == decision["reliability_of"] == "the labelled tasks, which were chosen for being hard: " \
        "the rest differs"  # fmt: skip
    assert sum(row["n"] for row in decision["reliability"]) == LABELLED
    assert sum(map(sum, decision["confusion"])) == LABELLED


@pytest.mark.parametrize(
    ("guess", "said"),
    [({"value": 0.91, "allowing": 0.96, "n": 6}, "91% to 96%"), ({"value": 0.91, "n": 6}, "91%")],
    ids=["both ends", "an older version"],
)
def test_the_guess_is_said_with_both_ends(
    store: Store, connection: redis.Redis, guess: dict[str, float], said: str
) -> None:
    save_project(store)
    publish(store, facts={"guess": guess})
    assert state(store, connection)["accuracy"]["line"].startswith(
        f"The mixture itself expects to be right on {said} of the open tasks."
    )


def test_the_worst_label_comes_first(shown: dict[str, Any]) -> None:
    (decision,) = shown["decisions"]
    scores = [row["f1"]["value"] for row in decision["classes"]]
    assert scores == sorted(scores)
    assert decision["classes"][0]["label"] in shown["worst"]


def test_each_llm_and_each_person_has_a_row_a_label(shown: dict[str, Any]) -> None:
    rows = {row["who"]: row for row in shown["decisions"][0]["raters"]["rows"]}
    assert list(rows) == ["tiny", "small", "person 1", "person 2"]
    assert sum(cell["n"] for cell in rows["tiny"]["cells"]) == LABELLED + SHARED
    assert sum(cell["n"] for cell in rows["person 2"]["cells"]) == SHARED
    assert shown["disagrees"].startswith("people with tiny agree least: the same label on 0.")


QUESTIONS = {
    "accuracy": ["right on", "n = 40"],
    "classes": ["the label with the lowest F1 is", "precision", "recall"],
    "people": ["agree least", "person 2", "tiny"],
    "next": ["because:", "tiny:", "small:", "sure"],
    "cost": ["prompt tokens", "texts a second", "No budget is set"],
    "progress": ["labels to go, expected", "time to go, expected"],
    "versions": ["status", "published", "log-loss there", "accepted"],
}


@pytest.mark.parametrize(("section", "words"), QUESTIONS.items())
def test_each_question_has_a_link_to_its_answer(shown: dict[str, Any], section: str, words: list[str]) -> None:
    found = page(shown)
    assert f"#{section}" in found.values("href")
    for word in words:
        assert word.lower() in found.within[section].lower(), word


def test_each_section_says_what_it_is(shown: dict[str, Any]) -> None:
    found = page(shown)
    sections = [given["id"] for tag, given in found.tags if tag == "section"]
    helps = sum(given.get("class") == "help" for _tag, given in found.tags)
    assert helps >= len(sections) - 1  # the first is the one line
    ids = found.values("id")
    assert len(ids) == len(set(ids))
    assert {given["aria-labelledby"] for _tag, given in found.tags if "aria-labelledby" in given} <= set(ids)


def test_a_task_opens_in_label_studio_with_its_text_and_what_each_llm_said(shown: dict[str, Any]) -> None:
    first = shown["batch"]["next"][0]
    assert [one["who"] for one in first["said"]] == ["tiny", "small"]
    assert {one["label"] for one in first["said"]} <= {"cat", "dog"}
    found = page(shown)
    assert f"http://ls/projects/7/data?task={first['task_id']}" in found.values("href")
    assert first["text"] in found.within["next"]


def test_a_page_reads_no_facts_of_versions(taught: Runtime, connection: redis.Redis) -> None:
    told: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        told.append(statement)

    sa.event.listen(taught.store.engine, "before_cursor_execute", note)
    try:
        state(taught.store, connection)
    finally:
        sa.event.remove(taught.store.engine, "before_cursor_execute", note)
    assert told
    assert not [statement for statement in told if "versions.facts" in statement]
    queries = [statement for statement in told if not statement.startswith("BEGIN")]
    assert len(queries) < 40, "a page asks for each thing once, whatever the number of versions"


def test_a_version_of_an_earlier_release_is_read_from_its_facts(store: Store, connection: redis.Redis) -> None:
    publish(store)
    with store.write() as opened:
        facts = {"scores": {"accuracy": 0.8, "log_loss": 0.5, "ece": 0.1}, "gate": "accepted", "pool": 6}
        opened.execute(sa.text("UPDATE versions SET facts = :facts"), {"facts": json.dumps(facts)})
        opened.execute(sa.text("DELETE FROM notes"))
    found = state(store, connection)
    assert found["history"][0]["scores"]["ece"] == 0.1
    assert found["version"]["gate"] == "accepted"
    assert found["suspects"] == {"known": False, "count": 0, "rows": []}
    assert "80.0%" in page(found).within["versions"]


def test_the_reserve_is_not_called_the_batch(store: Store, connection: redis.Redis) -> None:
    publish(store, count=6, size=2)
    say(store, 1, 1, "dog")
    found = state(store, connection)
    assert (found["batch"]["waiting"], found["batch"]["reserve"], found["open"]) == (2, 3, 5)
    assert "2 tasks wait for people (3 more in reserve)" in found["summary"]["waits"]
    assert found["batch"]["next"][0]["task_id"] == 2


def test_of_a_blind_task_nothing_is_told(store: Store, connection: redis.Redis) -> None:
    publish(store, count=3, options={"blind_share": 1.0})
    for row in state(store, connection)["batch"]["next"]:
        assert (row["blind"], row["label"], row["said"], row["confidence"]) == (True, "", [], 0.0)
    assert "dog" not in page(state(store, connection)).within["next"]


def test_an_earlier_version_can_be_put_back_and_a_refused_one_cannot(store: Store, connection: redis.Redis) -> None:
    publish(store)
    versions.save(store, 7, versions.Version("v2", 1, "refused", 4, {"gate": "refused: worse"}), [])
    versions.save(store, 7, versions.Version("v0", 0, "retired", 2, {"gate": "accepted"}, "2020-01-01"), [])
    found = page(state(store, connection), BUTTONS)
    assert [given["value"] for _tag, given in found.tags if given.get("name") == "version"] == ["v0"]
    assert "refused: worse" in found.within["versions"]
    assert set(found.forms()) == {f"/projects/7/{name}" for name in ("rollback", "train", "audit")}
    tokens = [given["value"] for _tag, given in found.tags if given.get("name") == "csrf"]
    assert tokens == ["a-token"] * len(found.forms())
    assert not page(state(store, connection)).forms()


def test_only_the_newest_versions_are_listed(store: Store, connection: redis.Redis) -> None:
    publish(store)
    for n in range(30):
        versions.save(store, 7, versions.Version(f"w{n}", n, "retired", n, {}, f"2030-01-{n + 1:02}"), [])
    found = state(store, connection)
    assert (len(found["history"]), found["versions"]) == (view.HISTORY, 31)
    assert found["version"]["id"] == "v1", "the published one is told though it is older than those"
    assert "The newest 20 of 31." in page(found).within["versions"]


def test_an_empty_project_says_what_to_do(store: Store, connection: redis.Redis) -> None:
    found = state(store, connection)
    assert (found["summary"]["state"], found["no_version"]) == ("empty", "none yet: there are no tasks")
    shown = page(found, BUTTONS)
    assert "There are no tasks yet: import some in Label Studio." in shown.within["summary"]
    assert "Nothing was asked of an LLM yet." in shown.within["cost"]
    assert found["summary"]["waits"] == "nothing"


def test_a_project_that_is_being_read_says_how_far(store: Store, connection: redis.Redis) -> None:
    tasks.upsert(store, 7, [Task(n, str(n), f"text {n}") for n in range(1, 11)])
    found = state(store, connection)
    assert found["summary"]["state"] == "reading"
    assert "10 answers of an LLM still to come" in found["summary"]["waits"]
    assert "people can begin then" in page(found).within["summary"]
    assert "0 of 10" in page(found).within["jobs"]


def test_a_training_is_shown_with_how_far_it_is(store: Store, connection: redis.Redis) -> None:
    publish(store)
    with noting.noted(connection, 7, "training", 4) as note:
        note.say("fusing")
        note.reached(1)
        note.beat()
        found = state(store, connection)
    assert found["summary"]["state"] == "training"
    shown = page(found)
    assert "A training runs." in shown.within["summary"]
    assert "fusing, 1 of 4" in shown.within["jobs"]


def test_a_job_that_failed_is_said_first_and_can_be_tried_again(store: Store, connection: redis.Redis) -> None:
    publish(store)
    queues.hold(connection, "reconcile-7")
    queues.hold(connection, "train-77")
    events.add(store, "problem", "reconcile: <b>LABEL_STUDIO_URL is not set", 7)
    found = state(store, connection)
    line = "the worker failed 1 time, at last: reconcile: <b>LABEL_STUDIO_URL is not set"
    assert found["failing"] == [line]
    assert found["summary"]["warning"] == line
    shown = page(found, BUTTONS)
    assert ("input", {"type": "hidden", "name": "job", "value": "reconcile-7"}) in shown.tags
    assert line in shown.within["jobs"]


def test_unreadable_tasks_and_an_llm_that_is_away_are_said(store: Store, connection: redis.Redis) -> None:
    tasks.upsert(store, 7, [Task(1, "1", None, "no text")])
    found = state(store, connection)
    assert found["summary"]["state"] == "unreadable"
    assert "1 tasks cannot be read" in found["summary"]["warning"]
    signals.mark_absent(store, PANEL[0].fingerprint, "out of memory")
    assert state(store, connection)["summary"]["warning"] == "tiny is away: out of memory"


def test_a_disconnected_project_has_no_button(store: Store, connection: redis.Redis) -> None:
    publish(store)
    projects.change(store, 7, connected=False)
    found = state(store, connection)
    assert found["summary"]["state"] == "disconnected"
    shown = page(found, BUTTONS)
    assert "mollm connect 7" in shown.within["summary"]
    assert not shown.forms()


def test_a_queue_that_is_away_is_said(store: Store) -> None:
    publish(store)
    gone = queues.connect("redis://127.0.0.1:9/0")
    found = state(store, gone)
    assert not found["jobs"]["reachable"]
    assert found["summary"]["warning"] == "the queue is not reachable: start `mollm up`"
    assert "The queue is not reachable" in page(found).within["jobs"]


ALLOWED = {  # what our own templates and pictures write
    "html", "head", "meta", "title", "link", "script", "style", "body", "a", "header", "nav", "p", "main", "div",
    "section", "h1", "h2", "h3", "bdi", "span", "strong", "b", "code", "time", "details", "summary", "dl", "dt", "dd",
    "ul", "ol", "li", "table", "thead", "tbody", "tr", "th", "td", "figure", "figcaption", "svg", "g", "rect", "text",
    "path", "circle", "line", "form", "input", "button", "label", "progress",
}  # fmt: skip


@pytest.mark.parametrize("n", range(0, len(PAYLOADS), 5))
def test_what_people_named_is_text_and_nothing_else(store: Store, connection: redis.Redis, n: int) -> None:
    mine = PAYLOADS[n : n + 5]
    names = tuple(dict.fromkeys(f"{text} {k}" for k, text in enumerate(mine)))
    asked = (Decision("label", (Source("text", "text"),), LabelSet(names)),)
    save_project(store, title=mine[0], decisions=asked, panel=(), url=mine[1])
    rows = [Task(k + 1, str(k), text) for k, text in enumerate(mine)]
    tasks.upsert(store, 7, rows)
    C = len(names)
    known = [versions.StoredPrediction(row.task_id, row.text_key, names[0], 0.9, np.full(C, 1 / C)) for row in rows]
    cell = {"n": 5, "value": 0.5, "low": 0.2, "high": 0.8, "reason": ""}
    measured = {
        "n": 5, "reliability": [{"confidence": 0.5} | cell], "baseline": {"label": names[0]} | cell,
        "classes": {"classes": [{"precision": cell, "recall": cell, "f1": cell}] * C, "counts": [[1] * C] * C},
    }  # fmt: skip
    suspect = {"task": 1, "annotation": 1, "user": 1, "given": names[0], "suggested": names[-1], "score": 1.0,
               "reason": mine[2], "seen": "", "decision": ""}  # fmt: skip
    facts = {"measured": measured, "suspects": [suspect], "notes": [mine[2]], "gate": mine[3],
             "guess": {"value": 0.5, "n": 5}, "people": {"lines": [mine[2]]}}  # fmt: skip
    versions.save(store, 7, versions.Version("v1", 0, "candidate", 3, facts), known)
    entries = [batches.StoredEntry(row.task_id, k, "v1", names[0], 0.9, mine[3]) for k, row in enumerate(rows)]
    batches.save(store, 7, "v1+batch-1", entries)
    versions.publish(store, 7, "v1", "v1+batch-1")
    projects.change(store, 7, attention=mine[4], trust={"lines": [mine[0]]})
    events.add(store, "problem", mine[1], 7)
    found = state(store, connection)
    for shown in (page(found, BUTTONS), Page(render.report(found))):
        assert {tag for tag, _ in shown.tags} <= ALLOWED
        assert not [name for _tag, given in shown.tags for name in given if name.startswith("on") or name == "style"]
        assert all(link.startswith(("/", "#")) for link in shown.values("href")), "no address here is one of http"
        visible = " ".join(shown.within["next"].split())
        assert " ".join(mine[0].split()) in visible
