"""Which labels of a list are shown: thresholds from the pool, moved by people's sets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.special import expit

from mollm.records import BoolArray, FloatArray
from mollm.sets import LONGEST, WITH_ONE, WITH_TWO, SetRule, f1, highest_f1, log_odds, micro_f1

N, K = 400, 5


def made(seed: int, scale: float, few: float = 0.1) -> tuple[FloatArray, BoolArray]:
    """Texts with no label (a share `few`), one or two, and probabilities that rank the true labels first mostly."""
    rng = np.random.default_rng(seed)
    size = rng.choice(3, N, p=[few, 0.8 * (1 - few), 0.2 * (1 - few)])
    truth = np.argsort(rng.random((N, K)), axis=1) < size[:, None]
    return expit(scale * (2.0 * truth + 0.7 * rng.standard_normal((N, K))) - 1.4), truth


@given(arrays(np.float64, st.tuples(st.integers(1, 20), st.integers(2, 7)), elements=st.floats(0, 1)))
def test_what_is_shown_is_the_most_probable_of_a_text(probs: FloatArray) -> None:
    chosen = SetRule.before(probs).choose(probs, probs)
    for row, ticked in zip(log_odds(probs), chosen, strict=True):
        assert not ticked.any() or row[ticked].min() >= row[~ticked].max(initial=-np.inf)


def test_an_unsure_panel_shows_as_many_labels_as_texts_usually_have() -> None:
    probs, truth = made(0, 0.2)
    assert (probs < 0.5).all()  # cut at .5, no box is ticked
    chosen = SetRule.before(probs).choose(probs, probs)
    assert (chosen.sum(axis=1) > 0).mean() == pytest.approx(WITH_ONE, abs=0.01)
    assert (chosen.sum(axis=1) > 1).mean() == pytest.approx(WITH_TWO, abs=0.03)
    best = np.eye(K, dtype=bool)[probs.argmax(axis=1)]
    assert micro_f1(chosen, truth) > micro_f1(best, truth)


def test_of_a_sure_panel_a_probability_of_a_half_means_what_it_says() -> None:
    probs, _ = made(0, 2.0)
    assert SetRule.before(probs) == SetRule(0.0, 0.0, taught=False)
    np.testing.assert_array_equal(SetRule(0.0, 0.0).choose(probs, probs), probs >= 0.5)


def test_before_any_label_the_panel_says_how_many_and_the_mixture_which() -> None:
    panel, mixture = np.array([[0.9, 0.8, 0.1], [0.1, 0.2, 0.9]]), np.array([[0.1, 0.2, 0.3], [0.3, 0.2, 0.1]])
    by_panel = np.array([[True, True, False], [False, False, True]])
    by_mixture = np.array([[False, True, True], [True, False, False]])
    np.testing.assert_array_equal(SetRule(0.0, 0.0, taught=False).choose(panel, mixture), by_mixture)
    np.testing.assert_array_equal(SetRule(0.0, 0.0).choose(panel, mixture), by_panel)
    nobody = SetRule.fitted(panel, np.arange(0), panel[:0], panel[:0] > 0, np.ones(0))
    assert nobody == SetRule.before(panel)
    assert not nobody.taught


@pytest.mark.parametrize("few", [0.05, 0.8])
def test_people_who_label_move_the_thresholds(few: float) -> None:
    gained = []
    for seed in range(3):
        probs, truth = made(seed, 0.3, few)
        seen = np.random.default_rng(seed).permutation(N)[:150]
        nothing_learned = np.full((len(seen), K), 0.01)
        rule = SetRule.fitted(probs, seen, nothing_learned, truth[seen], np.ones(len(seen)))
        rest = np.setdiff1d(np.arange(N), seen)
        before = SetRule.before(probs).choose(probs[rest], probs[rest])
        assert not rule.learned
        gained.append(float((f1(rule.cut(log_odds(probs[rest])), truth[rest]) - f1(before, truth[rest])).mean()))
    assert min(gained) > -0.02
    assert np.mean(gained) > (0.2 if few > 0.5 else -0.005)  # the guess before any label is far off where few have one


def test_without_labels_the_rule_stays_what_it_was() -> None:
    probs, _ = made(1, 0.3)
    nothing = np.zeros((0, K))
    rule = SetRule.fitted(probs, np.zeros(0, dtype=np.int64), nothing, nothing > 0, np.zeros(0))
    assert rule == SetRule.before(probs)


@pytest.mark.parametrize("better", [False, True])
def test_what_was_learned_takes_over_where_its_sets_are_better_on_labels_that_it_has_not_seen(better: bool) -> None:
    chosen = 0
    for seed in range(10):
        good, truth = made(seed, 1.0)
        noise = expit(np.random.default_rng(seed).standard_normal((N, K)) - 1.4)
        panel, learned = (noise, good) if better else (good, noise)
        asked = np.random.default_rng(seed).permutation(N)[:20]
        rule = SetRule.fitted(panel, asked, learned[asked], truth[asked], np.ones(20))
        chosen += rule.learned
        expected = highest_f1(learned) if rule.learned else rule.cut(log_odds(panel))
        np.testing.assert_array_equal(rule.choose(panel, learned), expected)
    assert chosen == 10 * better


def test_two_people_who_labelled_one_text_do_not_tell_each_other() -> None:
    """Their rows are held out together: else thresholds would be tried on the text that they were learned from."""
    panel, truth = made(0, 0.3)
    once = np.random.default_rng(0).permutation(N)[:10]
    one, twice = (
        SetRule.fitted(panel, asked, panel[asked], truth[asked], np.full(len(asked), 10 / len(asked)))
        for asked in (once, np.repeat(once, 2))
    )
    assert one == twice


@given(arrays(np.float64, st.tuples(st.integers(1, 5), st.integers(1, 6)), elements=st.floats(0, 1)))
def test_the_set_of_the_highest_expected_f1(probs: FloatArray) -> None:
    """Against all sets and all truths, one by one."""
    size = probs.shape[1]
    all_sets = np.array(list(itertools.product([False, True], repeat=size)))
    chance = np.where(all_sets, probs[:, None], 1 - probs[:, None]).prod(axis=2)  # (N, 2^K) of each truth
    each = np.array([f1(np.broadcast_to(one, all_sets.shape), all_sets) for one in all_sets])  # (set, truth)
    expected = chance @ each.T
    place = (highest_f1(probs) @ (1 << np.arange(size)[::-1])).astype(int)
    np.testing.assert_allclose(expected[np.arange(len(probs)), place], expected.max(axis=1), atol=1e-9)


def test_of_a_long_list_the_most_probable_labels_are_shown() -> None:
    probs = np.tile(np.concatenate([np.full(3, 0.9), np.full(60, 0.001)]), (2, 1))
    np.testing.assert_array_equal(highest_f1(probs)[0], np.arange(63) < 3)
    assert highest_f1(np.full((1, 63), 0.9)).sum() == LONGEST


def test_a_saved_rule_is_read_again_and_said_in_words() -> None:
    rule, learned = SetRule(-1.0, 0.0), SetRule(-1.0, 0.0, learned=True)
    rules = [rule, learned, SetRule(-1.0, 0.0, taught=False)]
    assert [SetRule.of_state(one.state()) for one in rules] == rules
    assert rule.line().startswith("the most probable label is shown from 27% on, others from 50%")
    assert "highest expected F1" in learned.line()


def test_f1_of_sets() -> None:
    none, one, two = ([False, False], [True, False], [True, True])
    np.testing.assert_allclose(f1(np.array([none, none, one, two]), np.array([none, one, two, two])), [1, 0, 2 / 3, 1])
    assert micro_f1(np.array([none, two]), np.array([one, two])) == pytest.approx(0.8)
