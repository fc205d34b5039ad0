"""The mixture's own guess: both ends, where they part, and that no allowance goes out of bounds."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, logit

from mollm.acceptance.doubt import CHOSEN, SETTLED, between, doubt_of, expected_right


@given(st.lists(st.floats(0, 1), min_size=1, max_size=50), st.integers(0, 2000))
def test_the_ends_are_shares_in_order_and_the_first_is_the_mean(confidence: list[float], given_: int) -> None:
    low, high = expected_right(np.array(confidence), given_)
    assert low == pytest.approx(np.mean(confidence))
    assert 0 <= low <= high <= 1


def test_the_ends_part_where_the_loop_has_chosen_many_labels() -> None:
    confidence = np.full(10, 0.9)
    assert expected_right(confidence, SETTLED)[1] == pytest.approx(0.9)
    assert expected_right(confidence, 1000, chosen=False)[1] == pytest.approx(0.9)
    ends = [expected_right(confidence, labels)[1] for labels in (200, 300, 500, 1000)]
    assert ends == sorted(ends)
    assert 1 - ends[1] == pytest.approx(expit(logit(0.1) - CHOSEN / 2))


def test_doubt_rises_and_a_task_that_nobody_has_read_stays_doubtful() -> None:
    found = doubt_of(np.array([0.99, 0.0, 0.6]), 1000)
    assert found.tolist() == sorted(found.tolist())
    assert found[-1] == 1.0


def test_ends_that_read_alike_are_said_once() -> None:
    assert between("91%", "91%") == "91%"
    assert between("12", "30") == "12 to 30"
