"""The closed form of the votes: hand-computed rows, properties, speed, and the recordings' own ten votes."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from mollm.errors import InputError
from mollm.recording import load
from mollm.signals import expected_votes, normalised, signal_key, total_variation, without_prior, yes_or_no

RECORDINGS = Path(os.environ.get("MOLLM_RECORDINGS", Path(__file__).parents[2] / "shared" / "recordings"))
WEIGHTS = arrays(
    np.float64,
    st.tuples(st.integers(1, 8), st.integers(1, 7)),
    elements=st.one_of(st.just(0.0), st.floats(0, 10), st.sampled_from([0.1, 0.25, 1.0])),
)
SETTINGS = st.tuples(st.floats(0.05, 3), st.floats(0.05, 1))


def test_hand_computed_row() -> None:
    # temperature 1/2 squares: .25 .09 .04 -> .6579 .2368 .1053; .9 needs three, .8 needs two
    np.testing.assert_allclose(expected_votes([0.5, 0.3, 0.2], 0.5, 0.8), [0.25 / 0.34, 0.09 / 0.34, 0.0])
    np.testing.assert_allclose(expected_votes([0.5, 0.3, 0.2], 0.5, 0.9), [0.25 / 0.38, 0.09 / 0.38, 0.04 / 0.38])


def test_exactly_reaching_top_p_keeps_no_more() -> None:
    np.testing.assert_allclose(expected_votes([0.5, 0.4, 0.1], 1.0, 0.9), [5 / 9, 4 / 9, 0.0])


def test_ties_at_the_cut_are_all_kept() -> None:
    np.testing.assert_allclose(expected_votes([0.4, 0.3, 0.3], 1.0, 0.5), [0.4, 0.3, 0.3])


def test_a_row_kept_as_float32_is_cut_where_its_original_is() -> None:
    """.9 as float32 is a little less than .9: the nucleus is reached all the same. Recordings are float32."""
    for row in ([0.9, 0.1], [0.5, 0.4, 0.1], [0.1] * 9 + [0.05, 0.05], [0.63, 0.27, 0.1, 0.0]):
        exact = expected_votes(np.array(row), 1.0, 0.9)
        np.testing.assert_allclose(expected_votes(np.array(row, dtype=np.float32), 1.0, 0.9), exact, atol=1e-6)
        np.testing.assert_array_equal(exact > 0, expected_votes(np.float32(row), 1.0, 0.9) > 0)


@pytest.mark.parametrize("mass", [0.9, 0.95, 1.0, 1.0000001, 1.05, 6.0])
def test_a_row_is_read_as_its_share_of_the_whole(mass: float) -> None:
    """What is missing to 1 went to tokens that are no label; more than 1 is a token counted for several."""
    row = np.array([0.6, 0.25, 0.1, 0.05, 0.0])
    np.testing.assert_allclose(expected_votes(row * mass), expected_votes(row), atol=1e-12)


def test_rows_with_zeros_and_the_smallest_numbers() -> None:
    rows = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 5e-324], [1e-30, 1e-30, 0.0], [1.0, 1e-300, 0.0]])
    votes = expected_votes(rows)
    np.testing.assert_allclose(votes, [[1, 0, 0], [0, 0, 1], [0.5, 0.5, 0], [1, 0, 0]], atol=1e-12)


def test_silence_is_uniform_and_missing_stays_missing() -> None:
    votes = expected_votes(np.array([[0.0, 0.0], [np.nan, np.nan], [1.0, 0.0]]))
    np.testing.assert_array_equal(votes, [[0.5, 0.5], [np.nan, np.nan], [1.0, 0.0]])


@pytest.mark.parametrize("row", [[-0.1, 1.0], [np.inf, 0.0], [np.nan, 1.0], []])
def test_broken_rows_raise(row: list[float]) -> None:
    with pytest.raises(InputError):
        expected_votes(row)


@pytest.mark.parametrize(("temperature", "top_p"), [(0, 0.9), (-1, 0.9), (0.7, 0), (0.7, 1.1), (float("nan"), 0.9)])
def test_broken_settings_raise(temperature: float, top_p: float) -> None:
    with pytest.raises(InputError):
        expected_votes([0.5, 0.5], temperature, top_p)


@given(WEIGHTS, SETTINGS)
def test_rows_sum_to_one_and_zeros_stay_zero(weights: np.ndarray, settings: tuple[float, float]) -> None:
    votes = expected_votes(weights, *settings)
    np.testing.assert_allclose(votes.sum(axis=-1), 1.0)
    said = weights.sum(axis=-1) > 0
    assert not votes[said][weights[said] == 0].any()


@given(WEIGHTS, SETTINGS, st.randoms(use_true_random=False))
def test_label_order_and_scale_do_not_matter(weights: np.ndarray, settings: tuple[float, float], random) -> None:  # type: ignore[no-untyped-def]
    order = list(range(weights.shape[1]))
    random.shuffle(order)
    votes = expected_votes(weights, *settings)
    np.testing.assert_allclose(expected_votes(weights[:, order], *settings), votes[:, order], atol=1e-9)
    np.testing.assert_allclose(expected_votes(weights * 4.0, *settings), votes, atol=1e-9)


@given(WEIGHTS, SETTINGS)
def test_more_probable_never_gets_fewer_votes(weights: np.ndarray, settings: tuple[float, float]) -> None:
    votes = expected_votes(weights, *settings)
    for row, voted in zip(weights, votes, strict=True):
        assert (np.diff(voted[np.argsort(row, kind="stable")]) >= -1e-12).all()


def test_agrees_with_sampling() -> None:
    """200,000 draws the long way (temperature, sort, cumulate, cut, draw) land on the closed form."""
    probs, rng = np.array([0.45, 0.25, 0.2, 0.07, 0.03]), np.random.default_rng(0)
    heated = probs ** (1 / 0.7) / (probs ** (1 / 0.7)).sum()
    nucleus = int(np.searchsorted(np.cumsum(heated), 0.9)) + 1
    drawn = rng.choice(nucleus, size=200_000, p=heated[:nucleus] / heated[:nucleus].sum())
    np.testing.assert_allclose(np.bincount(drawn, minlength=5) / 200_000, expected_votes(probs), atol=0.005)


def test_ten_million_rows_a_minute() -> None:
    rows = np.random.default_rng(0).random((500_000, 6))
    started = time.process_time()
    expected_votes(rows)
    assert 500_000 / (time.process_time() - started) > 10_000_000 / 60


@pytest.mark.parametrize("name", ["trec", "imdb"])
def test_closed_form_meets_the_bar_on_recordings(name: str) -> None:
    """Issue 3, deliver 1: mean TV from the recorded votes at most max(1.35 noise, noise + .001), every annotator."""
    if not (RECORDINGS / name).is_dir():
        pytest.skip(f"no recording at {RECORDINGS / name}: set MOLLM_RECORDINGS")
    recording, rng = load(RECORDINGS / name), np.random.default_rng(0)
    for m, annotator in enumerate(recording.signals.annotators):
        probs, votes = recording.signals.label_probs[:, m], recording.signals.votes[:, m]
        mass = probs.sum(axis=1)
        rows = (mass >= 0.90) & (mass <= 1.05) & np.isclose(votes.sum(axis=1), 1.0)
        expected = expected_votes(probs[rows], recording.temperature, recording.top_p)
        drawn = rng.multinomial(10, expected, size=(100, len(expected))) / 10
        noise = float(total_variation(drawn, expected).mean())
        reached = float(total_variation(votes[rows], expected).mean())
        assert reached <= max(1.35 * noise, noise + 0.001), (annotator, reached, noise)


def test_prior_is_divided_out() -> None:
    np.testing.assert_allclose(without_prior([0.8, 0.2], [0.8, 0.2]), [0.5, 0.5])
    np.testing.assert_allclose(normalised([[0.0, 0.0], [3.0, 1.0]]), [[0.5, 0.5], [0.75, 0.25]])


def test_signal_key_knows_text_annotator_and_labels() -> None:
    keys = {signal_key(t, f, ls) for t in ("a", "b") for f in ("x", "y") for ls in (("p", "q"), ("q", "p"), ("pq",))}
    assert len(keys) == 12
    assert signal_key("ab", "c", ("d",)) != signal_key("a", "bc", ("d",))


def test_an_answer_to_a_list_as_yes_or_no_to_one_label() -> None:
    said = np.array([[0.5, 0.2, 0.3], [0.0, 0.0, 0.0], [np.nan] * 3])
    found = yes_or_no(said, 1)
    np.testing.assert_allclose(found[:2], [[0.2, 0.8], [0, 0]])  # an abstention stays one
    assert np.isnan(found[2]).all()
