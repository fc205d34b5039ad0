"""Stopping advice on numbers that can be worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from mollm.stopping import advise, taught


def test_the_expected_error_and_gain_by_hand() -> None:
    probs = np.array([[0.9, 0.1], [0.6, 0.4], [1.0, 0.0], [0.5, 0.5]])
    advice = advise(probs, np.array([True, True, True, False]), [1])
    assert advice.error == pytest.approx(0.5 / 3)
    assert advice.gain == pytest.approx(0.4 / 4)
    assert advice.gain_low == 0
    assert advice.gain_high == pytest.approx((0.4 + 1.96 * np.sqrt(0.24)) / 4)
    assert not advice.stop
    assert "is expected to pay" in advice.line()


def test_a_pool_that_is_sure_of_itself_stops() -> None:
    advice = advise(np.tile([0.99999, 0.00001], (1000, 1)), np.ones(1000, dtype=np.bool_), range(50))
    assert advice.stop
    assert "not expected to pay" in advice.line()


def test_what_batches_teach_can_keep_it_going() -> None:
    falling = [(50, 0.2), (100, 0.15), (150, 0.1)]
    assert taught(falling, 50) == pytest.approx(0.05)
    assert taught(falling[:1], 50) == 0
    sure = np.tile([0.99999, 0.00001], (1000, 1))
    assert not advise(sure, np.ones(1000, dtype=np.bool_), range(50), falling).stop


def test_nothing_open_is_the_end() -> None:
    for n in (0, 3):
        advice = advise(np.full((n, 2), 0.5), np.zeros(n, dtype=np.bool_), [])
        assert advice.stop
        assert advice.line() == "Stopping: every item has a human label."
