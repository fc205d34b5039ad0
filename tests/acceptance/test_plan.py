"""The plan: each way on where it is the cheapest, costs that simulated projects bear out, and the pace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mollm.acceptance.doubt import CHOSEN
from mollm.acceptance.plan import Audit, Finish, Goal, pace, plan
from mollm.errors import InputError

GOAL = Goal(target=0.95, batch=100)
SURE = np.full(3000, 0.98)


def test_few_enough_open_tasks_need_nothing_more() -> None:
    found = plan(np.zeros(50), 950, 1000, GOAL)
    assert (found.step, found.labels, found.expected) == ("accept", 0, 0.0)
    assert plan(np.zeros(50), 950, 1000, GOAL, spent=1).step != "accept"


def test_a_sure_pool_is_audited_at_once() -> None:
    found = plan(SURE, 1000, 4000, GOAL)
    assert found.step == "audit"
    assert found.audit.expected < found.labels == found.audit.labels
    assert found.audit.expected < 300
    assert found.audit.chance > 0.7
    assert found.audit.expected <= found.expected < 1.3 * found.audit.expected


def test_a_doubtful_pool_is_labelled_first_where_labels_teach() -> None:
    found = plan(np.full(3000, 0.9), 100, 3100, GOAL)
    assert (found.step, found.labels) == ("batch", 100)
    assert found.batches >= 1
    assert found.audit.labels > 0
    assert found.expected >= 100 * found.batches + found.audit.expected


def test_a_small_pool_is_not_worth_an_audit() -> None:
    found = plan(np.full(12, 0.97), 10, 22, GOAL)
    assert (found.step, found.labels, found.expected) == ("people", 11, 11.0)
    assert "not worth it" in found.line()


def test_a_confidence_that_rests_on_few_labels_is_not_audited_yet() -> None:
    """Of 50 labels not one is wrong at this confidence: it may be far off, and an audit in vain costs a thousand."""
    assert plan(np.full(5000, 0.985), 50, 5050, GOAL).step == "batch"
    assert plan(np.full(5000, 0.985), 400, 5400, replace(GOAL, chosen=False)).step == "audit"


def test_tasks_that_the_loop_left_are_righter_than_their_confidence_says() -> None:
    chosen, random = (plan(SURE, 1000, 4000, Goal(chosen=way, batch=100)) for way in (True, False))
    assert random.wrong == pytest.approx(60)
    assert 60 * np.exp(-CHOSEN) < chosen.wrong < 60
    assert chosen.doubted == random.doubted == pytest.approx(60)
    assert plan(SURE, 100, 4000, GOAL).wrong == pytest.approx(60)


def test_later_attempts_and_spent_errors_cost_more() -> None:
    first, second = (plan(SURE, 1000, 4000, GOAL, attempts=attempts).expected for attempts in (0, 1))
    assert first < second
    assert first < plan(SURE, 1000, 4000, GOAL, spent=40).expected


def test_hours_are_labels_at_the_pace() -> None:
    found = plan(SURE, 1000, 4000, GOAL, 36.0)
    assert found.hours == pytest.approx(found.expected / 100)
    assert plan(SURE, 1000, 4000, GOAL).hours is None


def test_the_pace_cuts_pauses() -> None:
    assert pace([]) is None
    assert pace([0.0, -1.0]) is None
    assert pace([4.0, 6.0, 5.0, 5.0, 3600.0]) == pytest.approx((4 + 6 + 5 + 5 + 15) / 5)


@given(st.integers(1, 400), st.floats(0, 1), st.integers(0, 500), st.sampled_from([0.8, 0.95, 0.99]))
@settings(max_examples=40, deadline=None)
def test_no_plan_costs_more_than_labelling_by_hand(K: int, sure: float, before: int, target: float) -> None:
    found = plan(np.linspace(sure, 1, K), before, K + before, Goal(target))
    assert 0 <= found.expected <= max(0, K - Goal(target).allowed(K + before))
    assert 0 <= found.labels <= K
    assert (found.step == "accept") == (found.expected == 0)
    assert found.line()


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("audit", "Next: an audit of some 70 tasks, 90 at most (a chance of 80% that it certifies the rest); in all"),
        ("batch", "Next: 2 batches of 50 labels, then an audit of some 70 tasks, 90 at most"),
        ("people", "label 50 more tasks yourselves, 2.0 hours"),
        ("accept", "No more labels are needed"),
    ],
)  # fmt: skip
def test_each_step_is_said_in_plain_words(step: str, said: str) -> None:
    found = Finish(step, 50, 120.0, 2.0, 900, 40.0, 60.0, 45, 2, Audit(90, 70.2, 0.8))  # type: ignore[arg-type]
    assert said in found.line()
    assert set(found.as_json()) >= {"step", "labels", "expected", "hours"}


@pytest.mark.parametrize("values", [{"target": 1.0}, {"confidence": 0.0}, {"batch": 0}, {"audit": 0}])
def test_a_goal_that_cannot_be_promised_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(InputError):
        Goal(**values)  # type: ignore[arg-type]


def test_confidences_that_are_no_probabilities_are_refused() -> None:
    for wrong in (np.array([0.5, np.nan]), np.array([1.2]), np.full(11, 0.5)):
        with pytest.raises(InputError, match="confidence each"):
            plan(wrong, 0, 10, GOAL)
