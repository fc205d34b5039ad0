"""The plan: each way on where it is the cheapest, costs that simulated projects bear out, and the pace."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import hypergeom

from mollm.acceptance.certificate import certify, fixed_number, level
from mollm.acceptance.outlook import DOUBT
from mollm.acceptance.plan import Audit, Finish, Goal, _most_errors, design, pace, plan
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
    assert found.labels == found.audit.labels < 400
    assert found.audit.chance > 0.7
    assert found.audit.labels < found.expected < 2 * found.audit.labels


def test_a_doubtful_pool_is_labelled_first_where_labels_teach() -> None:
    found = plan(np.full(3000, 0.9), 100, 3100, GOAL)
    assert (found.step, found.labels) == ("batch", 100)
    assert found.batches >= 1
    assert found.audit.labels > 0
    assert found.expected > 100 * found.batches + found.audit.labels - 1


def test_a_small_pool_is_not_worth_an_audit() -> None:
    found = plan(np.full(12, 0.97), 10, 22, GOAL)
    assert (found.step, found.labels, found.expected) == ("people", 11, 11.0)
    assert "not worth it" in found.line()


def test_what_is_certified_already_leaves_the_rest_to_people() -> None:
    found = plan(SURE, 1000, 4000, GOAL, attempts=1, left=40)
    assert (found.step, found.labels) == ("people", 40)
    assert plan(SURE, 1000, 4000, GOAL, left=0).step == "accept"


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


def test_the_largest_number_of_errors_is_the_tail_s() -> None:
    audits, tasks = np.array([[20, 60, 150], [40, 90, 200]]), np.array([[300, 600, 1000], [300, 600, 1000]])
    found = _most_errors(audits, tasks, 50, 0.04)
    for most, n, K in zip(found.ravel(), audits.ravel(), tasks.ravel(), strict=True):

        def holds(e: int, n: int = n, K: int = K) -> bool:
            return bool(hypergeom.cdf(e, K, 51 + e, n) <= 0.04)

        assert not holds(most + 1)
        assert most == -1 or holds(most)


def test_the_chance_of_an_audit_is_what_simulated_audits_bring() -> None:
    """Errors as the plan assumes them, audits drawn and certified by the real functions."""
    rng, confidence = np.random.default_rng(0), np.linspace(0.999, 0.95, 3000)
    found = plan(confidence, 1000, 4000, GOAL)
    assert found.step == "audit"
    allowed, alpha = fixed_number(GOAL.allowed(4000)), level(GOAL.confidence, 1)
    drawn = design(found)
    whole = 0
    for _ in range(400):
        wrong = rng.random(3000) < expit(logit(1 - confidence) + DOUBT * rng.standard_normal())
        places = drawn.draw(rng)
        whole += certify(drawn, places, wrong[places], allowed, alpha).tasks == found.audit.region
    assert 0.1 < found.audit.chance < 0.995
    assert whole / 400 == pytest.approx(found.audit.chance, abs=0.06)


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("audit", "Next: an audit of 90 tasks (a chance of 80% that it certifies the rest); in all some 120 more"),
        ("batch", "Next: 2 batches of 50 labels, then an audit of 90 tasks"),
        ("people", "label 50 more tasks yourselves, 2.0 hours"),
        ("accept", "No more labels are needed"),
    ],
)  # fmt: skip
def test_each_step_is_said_in_plain_words(step: str, said: str) -> None:
    found = Finish(step, 50, 120.0, 2.0, 900, 40.0, 45, 2, Audit(90, 900, 0.8))  # type: ignore[arg-type]
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
