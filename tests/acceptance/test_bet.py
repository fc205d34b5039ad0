"""The whole audit: its false certificates are no more frequent than promised, wherever the errors lie, and it takes
about as many answers as its plan says."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from mollm.acceptance.bet import Bet, chances, draw, prospect
from mollm.acceptance.certificate import Allowed, fixed_number, share_of
from mollm.acceptance.outlook import DOUBT
from mollm.records import BoolArray, FloatArray

ALPHA = 0.05
SEEDS = 1000
CONFIDENCE = np.random.default_rng(0).beta(6, 1, 800)


def placed(where: str, number: int, rng: np.random.Generator) -> BoolArray:
    """(800,) so many wrong tasks: among the doubtful ones, among the confident ones, or anywhere."""
    keys = {"doubtful": CONFIDENCE, "confident": -CONFIDENCE, "anywhere": rng.random(800),
            "as the confidence says": rng.exponential(size=800) / (1.001 - CONFIDENCE)}[where]  # fmt: skip
    wrong = np.zeros(800, dtype=np.bool_)
    wrong[np.argsort(keys)[:number]] = True
    return wrong


@pytest.mark.parametrize("target", [0.7, 0.9, 0.95])
@pytest.mark.parametrize("where", ["doubtful", "confident", "anywhere", "as the confidence says"])
def test_a_false_certificate_is_as_rare_as_promised_at_any_answer(where: str, target: float) -> None:
    """Of 1,000 audits of all tasks, each read after every answer: with so many errors that about as many of them as may
    be are found before."""
    for found in (0.0, 0.1, 0.3):
        rng, false = np.random.default_rng(1), 0
        for _ in range(SEEDS):
            wrong = placed(where, round((1 - target) * 800 * (1 + found)) + 1, rng)
            places, chance = draw(CONFIDENCE, 300, rng)
            certified = Bet(800, share_of(target)).certified(chance, wrong[places], ALPHA)
            left = int(wrong.sum()) - certified.errors
            false += certified.tasks > 0 and left > share_of(target)(np.array(800 - certified.audits))
        assert false / SEEDS <= 0.065


def exactly(confidence: FloatArray, wrong: BoolArray, allowed: Allowed, alpha: float) -> float:
    """The probability of a false certificate at some answer, over all orders in which the tasks may be drawn."""
    K, chance, total = len(wrong), chances(1 - confidence), 0.0
    for order in permutations(range(K)):
        places = np.array(order)
        left = 1 - (np.cumsum(chance[places]) - chance[places])
        probability = float(np.prod(chance[places] / np.maximum(left, chance[places])))
        found = Bet(K, allowed).certified(chance[places], wrong[places], alpha)
        if found.tasks and int(wrong.sum()) - found.errors > allowed(np.array(K - found.audits)):
            total += probability
    return total


@given(
    st.integers(0, 10_000), st.integers(3, 6), st.sampled_from([fixed_number(0), fixed_number(2), share_of(0.6)]),
    st.sampled_from([0.1, 0.3, 0.6]),
)  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_false_certificates_of_few_tasks_counted_exactly(seed: int, K: int, allowed: Allowed, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    wrong = rng.random(K) < rng.random()
    assert exactly(rng.random(K), wrong, allowed, alpha) <= alpha + 1e-9


@given(st.integers(0, 10_000), st.integers(2, 300), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_the_wealth_is_never_negative(seed: int, K: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    places, chance = draw(rng.random(K), K, rng)
    wealth = Bet(K, fixed_number(int(rng.integers(0, K)))).wealth(chance, (rng.random(K) < share)[places])
    assert wealth.shape == (K,)
    assert np.all(wealth >= 0)
    assert np.all(np.isfinite(wealth))


@given(st.integers(0, 10_000), st.integers(2, 300), st.floats(0, 1))
@settings(max_examples=60, deadline=None)
def test_what_was_rejected_once_stays_so(seed: int, K: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    places, chance = draw(rng.random(K), K, rng)
    bet, wrong = Bet(K, fixed_number(int(rng.integers(0, K)))), (rng.random(K) < share)[places]
    evidence = bet.evidence(chance, wrong)
    assert np.all(evidence >= bet.wealth(chance, wrong))
    assert np.all(np.diff(evidence) >= -1e-9 * evidence[:-1])


def test_an_error_does_not_take_back_what_was_nearly_certified() -> None:
    """Against one more error the bets before had come to more."""
    bet, chance = Bet(1000, fixed_number(49)), np.full(130, 1 / 1000)
    wrong = np.arange(130) >= 129
    assert bet.wealth(chance, wrong)[-1] < bet.wealth(chance, wrong)[-2] < bet.evidence(chance, wrong)[-1]


def test_each_task_is_first_as_often_as_its_chance_says() -> None:
    confidence, rng = np.array([0.99, 0.9, 0.6, 0.3]), np.random.default_rng(3)
    chance = chances(1 - confidence)
    assert chance.sum() == pytest.approx(1)
    assert np.all(np.diff(chance) > 0)
    first = np.bincount([draw(confidence, 1, rng)[0][0] for _ in range(8000)], minlength=4) / 8000
    np.testing.assert_allclose(first, chance, atol=4 * np.sqrt(0.25 / 8000))
    places, drawn = draw(confidence, 4, rng)
    assert sorted(places.tolist()) == [0, 1, 2, 3]
    np.testing.assert_array_equal(drawn, chance[places])


def test_the_prospect_is_what_simulated_audits_bring() -> None:
    """Errors as the plan assumes them, audits drawn and certified by the real functions."""
    rng, confidence = np.random.default_rng(0), np.random.default_rng(2).beta(9, 0.4, 3000)
    allowed = share_of(0.91)
    likely = prospect(np.sort(1 - confidence), 500, allowed, ALPHA)
    taken, certified = [], 0
    for _ in range(300):
        wrong = rng.random(3000) < expit(logit(np.clip(1 - confidence, 1e-4, 1)) + DOUBT * rng.standard_normal())
        places, chance = draw(confidence, 500, rng)
        found = Bet(3000, allowed).certified(chance, wrong[places], ALPHA)
        taken.append(found.audits)
        certified += found.tasks > 0
    assert likely.expected[-1] == pytest.approx(np.mean(taken), rel=0.12)
    assert likely.reached[-1] == pytest.approx(certified / 300, abs=0.05)
    half = likely.answers[np.flatnonzero(likely.reached >= 0.5)[0]]
    assert half == pytest.approx(np.median(taken), rel=0.15)


def test_a_prospect_is_better_with_fewer_errors_and_a_laxer_level() -> None:
    doubt = np.linspace(0.001, 0.15, 2000)
    answers = [prospect(rows, 400, share_of(0.9), alpha).expected[-1]
               for rows, alpha in ((doubt / 2, 0.05), (doubt, 0.05), (doubt, 0.01))]  # fmt: skip
    assert answers == sorted(answers)
