"""What jobs note for the pages: each figure with what it was measured on."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
import redis

from mollm.people.suspects import Heard
from mollm.records import Signals, Targets
from mollm_backend.jobs import accuracy, calibration, labelled, raters, rest, standing
from mollm_backend.store import Store, audits, frozen, notes, projects
from mollm_backend.store.audits import Audit, AuditTask, Part
from mollm_backend.view import project as view
from mollm_backend.view import render
from mollm_backend.work import figures

from .conftest import add_texts
from .test_figures import predicted, said


def test_the_bins_of_a_calibrated_mixture_cover_the_diagonal() -> None:
    rng, covered, total = np.random.default_rng(0), 0, 0
    for _ in range(200):
        sure = rng.beta(5, 2, 200)
        found = calibration.bins(sure, (rng.random(200) < sure).astype(float), np.ones(200))
        assert [row["n"] for row in found] == [20] * 10
        assert [row["confidence"] for row in found] == sorted(row["confidence"] for row in found)
        covered += sum(row["low"] <= row["confidence"] <= row["high"] for row in found)
        total += len(found)
    assert covered / total > 0.95


def test_few_tasks_are_one_bin_and_none_are_no_bin() -> None:
    (one,) = calibration.bins(np.array([0.5, 0.9]), np.array([0.0, 1.0]), np.array([1.0, 3.0]))
    assert (one["n"], one["confidence"], one["value"]) == (2, 0.8, 0.75)
    assert calibration.bins(np.empty(0), np.empty(0), np.empty(0)) == []


def heard(index: list[int], label: list[int], weight: list[float], rows: list[list[float]]) -> Heard:
    names = ("a", "b")
    items = tuple(str(n) for n in range(4))
    signals = Signals(items, ("one",), names, np.full((4, 1, 2), 0.5), np.full((4, 1, 2), 0.5))
    return Heard(Targets(np.array(index), np.array(label), np.array(weight)), signals, np.array(rows).reshape(-1, 2))


def test_a_task_of_several_people_counts_once_with_the_label_of_most_weight() -> None:
    found = labelled.measured(
        heard([2, 0, 2, 2], [0, 1, 1, 0], [0.3, 1, 1, 0.3], [[0.2, 0.8], [0.9, 0.1], [0.2, 0.8], [0.2, 0.8]])
    )
    assert found["n"] == 2
    assert found["classes"]["counts"] == [[0, 0], [1, 1]]
    assert found["baseline"]["label"] == "b"
    assert (found["baseline"]["value"], found["baseline"]["n"]) == (1.0, 2)
    assert sum(row["n"] for row in found["reliability"]) == 2
    assert labelled.measured(heard([], [], [], [])) == {}


def test_the_guess_is_the_mean_confidence_on_open_tasks_that_all_decisions_read() -> None:
    first = (["1", "2", "3"], np.array([True, True, False]), np.array([[0.9, 0.1], [0.5, 0.5], [1.0, 0.0]]))
    second = (["2", "1"], np.array([True, True]), np.array([[0.2, 0.8], [0.5, 0.5]]))
    mean = pytest.approx((0.9 * 0.5 + 0.5 * 0.8) / 2)
    assert accuracy.guess([first, second], 50) == {"value": mean, "allowing": mean, "n": 2}
    after = accuracy.guess([first, second], 500)
    assert after["value"] == mean
    assert mean.expected < after["allowing"] < 1
    nothing = {"value": None, "allowing": None, "n": 0}
    assert accuracy.guess([(["1"], np.array([False]), np.array([[1.0, 0.0]]))], 50) == nothing


def test_a_person_is_compared_with_the_others_on_the_same_tasks(store: Store) -> None:
    rows = add_texts(store, 12)
    for row in rows:
        said(store, row.task_id, row.task_id, "dog" if row.task_id % 2 else "cat")
    for task in (1, 2, 3, 4):
        said(store, 100 + task, task, "dog", user=2)
    project = projects.get(store, 7)
    (found,) = raters.of_project(store, project, figures.of_project(store, project))
    rows_of = {row["who"]: dict(zip(found["labels"], row["cells"], strict=True)) for row in found["rows"]}
    second = rows_of["person 2"]
    assert (second["dog"]["n"], second["dog"]["value"]) == (2, 1.0)
    assert (second["cat"]["n"], second["cat"]["value"]) == (2, 0.0)
    assert second["cat"]["high"] < 1
    first = rows_of["person 1"]
    assert (first["dog"]["n"], first["dog"]["value"], first["cat"]["n"]) == (4, 0.5, 0)
    assert first["cat"]["value"] is None
    assert sum(cell["n"] for cell in rows_of["tiny"].values()) == 16


def drawn(store: Store, n: int, purpose: str = audits.CERTIFICATE, target: float | None = None) -> Audit:
    """An audit of n of all open tasks, in the order of confidence."""
    project = projects.get(store, 7)
    rest_of, keys = frozen.freeze(store, project, prod)
    K = len(rest_of.task_ids)
    rows = [AuditTask(int(rest_of.task_ids[k]), 0, k, k, n / K, rest_of.labels_at(k), keys[k]) for k in range(n)]
    audit = Audit("v1", purpose, target, 0.95, 1, (Part("simple", n, K, 20, K, 0.05),),
                  audits.asked_digest(project.decisions))  # fmt: skip
    return audits.make(store, 7, audit, rest_of, rows)


def answer(store: Store, audit: Audit, wrong: int, count: int) -> None:
    for row in audits.tasks_of(store, 7, audit.id)[:count]:
        said(store, row.task_id, row.task_id, "cat" if row.turn < wrong else "dog")


def test_an_audit_for_a_certificate_says_nothing_before_it_is_decided(store: Store) -> None:
    predicted(store, 60)
    audit = drawn(store, 20, target=0.8)
    answer(store, audit, 4, 20)
    project = projects.get(store, 7)
    assert rest.measured(store, 7, ["v1"]) == {}
    assert rest.of_audit(store, project) is None
    audits.decide(store, 7, audit.id)
    told = rest.measured(store, 7, ["v1"])["v1"]
    assert (told["n"], told["of"]) == (20, audit.id)
    assert told["low"] < told["value"] < told["high"]
    found = rest.of_audit(store, project)
    assert found is not None
    assert sum(row["n"] for row in found["reliability"]) == 20
    assert (found["baseline"]["label"], found["baseline"]["value"]) == ("dog", pytest.approx(0.8))
    assert rest.measured(store, 7, ["v2"]) == {}


def test_of_tasks_drawn_at_random_only_what_is_answered_in_turn_counts(store: Store) -> None:
    predicted(store, 60)
    audit = drawn(store, 10, audits.STANDING)
    rows = audits.tasks_of(store, 7, audit.id)
    for row in (*rows[:4], rows[7]):
        said(store, row.task_id, row.task_id, "cat" if row.turn == 0 else "dog")
    told = rest.measured(store, 7, ["v1"])["v1"]
    assert (told["n"], told["value"], told["of"]) == (4, 0.75, "tasks drawn at random")


def test_the_page_shows_a_decided_audit_in_place_of_the_guess(store: Store, connection: redis.Redis) -> None:
    predicted(store, 60)
    audit = drawn(store, 30)
    answer(store, audit, 3, 30)
    audits.decide(store, 7, audit.id)
    standing.note(store, 7, 50)
    found = view.state(store, connection, projects.get(store, 7))
    assert found["accuracy"]["now"]["measured"]
    assert found["accuracy"]["baseline"]["of"] == audit.id
    (decision,) = found["decisions"]
    assert decision["of"] == decision["reliability_of"] == "tasks drawn at random (audit-1 of v1)"
    assert sum(map(sum, decision["confusion"])) == 30
    page = render.project_page(found, actions=None)
    assert "are right, by 30 of them (audit-1)" in page
    assert found["acceptance"]["open"] == 30
    assert found["acceptance"]["labels"] == 10
    shares = [row["share"] for row in found["acceptance"]["points"]]
    assert shares == sorted(shares, reverse=True)
    assert found["finish"]["plan"]["expected"] >= 0
    assert set(notes.read(store, 7, ["standing", "nothing"])) == {"standing"}


def test_nothing_noted_is_nothing_known(store: Store) -> None:
    project = projects.get(store, 7)
    assert rest.acceptance(store, project) is None
    assert rest.of_audit(store, project) is None
    found = standing.of_project(store, project, 50)
    assert (found["finish"], found["audit"], found["certificate"], found["rest"]) == (None, None, None, {})
