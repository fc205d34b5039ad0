"""Stopping advice on numbers that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mollm.round.stopping import Earlier, advise, lesson


def test_the_expected_error_and_gain_by_hand() -> None:
    probs = np.array([[0.9, 0.1], [0.6, 0.4], [1.0, 0.0], [0.5, 0.5]])
    advice = advise(probs, np.array([True, True, True, False]), [1], 50)
    assert advice.error == pytest.approx(0.5 / 3)
    assert advice.gain == pytest.approx(0.4 / 4)
    assert advice.gain_high == pytest.approx((0.4 + 1.96 * np.sqrt(0.24)) / 4)
    assert not advice.stop
    assert "is expected to pay" in advice.line()
    assert "own guess, not measured" in advice.line()
    assert "16.7% of the 3 items that were open" in advice.line()
    assert "[" not in advice.line(), "an interval would claim what nothing measured"


def test_after_many_chosen_labels_the_guess_has_two_ends() -> None:
    probs = np.tile([0.9, 0.1], (400, 1))
    few, many = (advise(probs, np.ones(400, dtype=np.bool_), [0], given) for given in (150, 500))
    assert few.allowing == pytest.approx(few.error)
    assert few.error == pytest.approx(many.error)
    assert few.error / 4 < many.allowing < few.error / 2
    assert "about 10.0% of the 400" in few.line()
    assert f"about {many.allowing:.1%} to 10.0% of the 400" in many.line()


def test_a_pool_that_is_sure_of_itself_stops() -> None:
    advice = advise(np.tile([0.99999, 0.00001], (1000, 1)), np.ones(1000, dtype=np.bool_), range(50), 50)
    assert advice.stop
    assert "not expected to pay" in advice.line()


def test_the_learning_curve_by_hand() -> None:
    now = np.tile([0.1, 0.3], 30)
    before = Earlier(40, np.where(np.arange(60) < 40, np.tile([0.3, 0.5], 30), np.nan))
    found = lesson(now, [before])
    assert found is not None
    assert found.labels == 40
    assert found.share == pytest.approx(0.2 / 0.4 / 20)  # a fall of .2 from .4 nats by 20 labels
    assert found.low == pytest.approx(found.high)  # the fall is the same for every label
    assert lesson(now, []) is None
    assert lesson(now, [Earlier(40, np.full(60, np.nan))]) is None
    assert lesson(now, [Earlier(60, before.losses)]) is None  # no new label since


def test_the_curve_s_doubt_is_its_labels_spread() -> None:
    rng = np.random.default_rng(0)
    now, fall = rng.random(400), rng.normal(0.0, 0.3, 400)
    found = lesson(now, [Earlier(350, now + fall)])
    assert found is not None
    assert found.low < 0 < found.high
    assert found.high - found.low == pytest.approx(2 * 1.96 * fall.std(ddof=1) / 20 / (now + fall).mean() / 50)


def test_what_batches_teach_can_keep_it_going() -> None:
    probs = np.vstack([np.tile([0.9, 0.1], (200, 1)), np.tile([0.99999, 0.00001], (800, 1))])
    open_items, batch = np.ones(1000, dtype=np.bool_), range(900, 950)
    assert advise(probs, open_items, batch, 50).stop
    half = lesson(np.full(100, 0.2), [Earlier(50, np.full(100, 0.4))])
    advice = advise(probs, open_items, batch, 50, half)
    assert not advice.stop
    assert advice.taught == pytest.approx(0.02 * 0.5, rel=1e-3)  # half of an error of .02
    assert "on 100 labels, they teach +1.00%" in advice.line()


def test_losses_are_found_by_the_label_s_name() -> None:
    found = Earlier.of(7, {"a/x": 0.5, "gone": 1.0}, ["a/x", "new"])
    np.testing.assert_array_equal(found.losses, [0.5, np.nan])


def test_nothing_open_is_the_end() -> None:
    for n in (0, 3):
        advice = advise(np.full((n, 2), 0.5), np.zeros(n, dtype=np.bool_), [], 50)
        assert advice.stop
        assert advice.line() == "Stopping: every item has a human label."
