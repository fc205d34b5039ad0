"""Which labels of a list are shown: thresholds from the pool, moved by people's sets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit

from mollm.records import BoolArray, FloatArray
from mollm.sets import WITH_ONE, WITH_TWO, SetRule, f1, log_odds, micro_f1

N, K = 400, 5


def made(seed: int, scale: float, few: float = 0.1) -> tuple[FloatArray, BoolArray]:
    """Texts with no label (a share `few`), one or two, and probabilities that rank the true labels first mostly."""
    rng = np.random.default_rng(seed)
    size = rng.choice(3, N, p=[few, 0.8 * (1 - few), 0.2 * (1 - few)])
    truth = np.argsort(rng.random((N, K)), axis=1) < size[:, None]
    return expit(scale * (2.0 * truth + 0.7 * rng.standard_normal((N, K))) - 1.4), truth


@given(arrays(np.float64, st.tuples(st.integers(1, 20), st.integers(2, 7)), elements=st.floats(0, 1)))
def test_what_is_shown_is_the_most_probable_of_a_text(probs: FloatArray) -> None:
    chosen = SetRule.before(probs).choose(probs)
    for row, ticked in zip(log_odds(probs), chosen, strict=True):
        assert not ticked.any() or row[ticked].min() >= row[~ticked].max(initial=-np.inf)


def test_an_unsure_panel_shows_as_many_labels_as_texts_usually_have() -> None:
    probs, truth = made(0, 0.2)
    assert (probs < 0.5).all()  # cut at .5, no box is ticked
    chosen = SetRule.before(probs).choose(probs)
    assert (chosen.sum(axis=1) > 0).mean() == pytest.approx(WITH_ONE, abs=0.01)
    assert (chosen.sum(axis=1) > 1).mean() == pytest.approx(WITH_TWO, abs=0.03)
    best = np.eye(K, dtype=bool)[probs.argmax(axis=1)]
    assert micro_f1(chosen, truth) > micro_f1(best, truth)


def test_of_a_sure_panel_a_probability_of_a_half_means_what_it_says() -> None:
    probs, _ = made(0, 2.0)
    assert SetRule.before(probs) == SetRule(0.0, 0.0)
    np.testing.assert_array_equal(SetRule(0.0, 0.0).choose(probs), probs >= 0.5)


@pytest.mark.parametrize("few", [0.05, 0.8])
def test_people_who_label_move_the_thresholds(few: float) -> None:
    gained = []
    for seed in range(3):
        probs, truth = made(seed, 0.3, few)
        seen = np.random.default_rng(seed).permutation(N)[:150]
        rule = SetRule.learned(probs, probs[seen], truth[seen], np.ones(len(seen)))
        rest = np.setdiff1d(np.arange(N), seen)
        before = SetRule.before(probs).choose(probs[rest])
        gained.append(float((f1(rule.choose(probs[rest]), truth[rest]) - f1(before, truth[rest])).mean()))
    assert min(gained) > -0.02
    assert np.mean(gained) > (0.2 if few > 0.5 else -0.005)  # the guess before any label is far off where few have one


def test_without_labels_the_rule_stays_what_it_was() -> None:
    probs, _ = made(1, 0.3)
    nothing = np.zeros((0, K))
    assert SetRule.learned(probs, nothing, nothing > 0, np.zeros(0)) == SetRule.before(probs)


def test_a_saved_rule_is_read_again_and_said_in_words() -> None:
    rule = SetRule(-1.0, 0.0)
    assert SetRule.of_state(rule.state()) == rule
    assert rule.line() == "the most probable label is shown from 27% on, others from 50%"


def test_f1_of_sets() -> None:
    none, one, two = ([False, False], [True, False], [True, True])
    np.testing.assert_allclose(f1(np.array([none, none, one, two]), np.array([none, one, two, two])), [1, 0, 2 / 3, 1])
    assert micro_f1(np.array([none, two]), np.array([one, two])) == pytest.approx(0.8)
