"""What would have sufficed: the numbers that are told would certify, and a little less would not."""

from __future__ import annotations

import numpy as np
import pytest

from mollm.acceptance.audit import Design
from mollm.acceptance.certificate import certify, share_of
from mollm.acceptance.refusal import more, reachable
from mollm.acceptance.tails import simple_tail
from mollm.records import BoolArray, IntArray

DESIGN, ALPHA = Design("simple", 100, 4000, 2000, 4000), 0.05


def audit(errors: int) -> tuple[IntArray, BoolArray]:
    """100 audits at every 40th task; the first ones are wrong."""
    return np.arange(20, 4000, 40), np.arange(100) < errors


def tail(n: int, e: int, target: float) -> float:
    """The p-value of the test's first step with n audits, e of them wrong."""
    left = int(np.floor((1 - target) * (2000 - n) + 1e-9))
    return float(simple_tail(*(np.array([value]) for value in (e, n, 2000, left + 1 + e)))[0])


@pytest.mark.parametrize("errors", [2, 3])
def test_so_many_audits_would_do_and_a_little_fewer_would_not(errors: int) -> None:
    places, wrong = audit(errors)
    assert not certify(DESIGN, places, wrong, share_of(0.9), ALPHA).tasks
    number = more(DESIGN, places, wrong, 0.9, ALPHA)
    assert number is not None
    half = number / 2  # half of the audits lie in the first step
    assert tail(int(np.ceil(half)), int(np.ceil(errors * number / 100)), 0.9) <= ALPHA
    fewer = 0.8 * half
    assert tail(int(fewer), int(np.ceil(errors * fewer / 50)), 0.9) > ALPHA


def test_no_number_does_where_too_much_is_wrong() -> None:
    places, wrong = audit(6)  # of 50 in the first step: 12 %
    assert more(DESIGN, places, wrong, 0.9, ALPHA) is None


@pytest.mark.parametrize("errors", [0, 4, 9])
def test_the_largest_target_that_the_answers_reach(errors: int) -> None:
    places, wrong = audit(errors)
    found = reachable(DESIGN, places, wrong, ALPHA)
    assert found is not None
    assert certify(DESIGN, places, wrong, share_of(found), ALPHA).tasks
    assert not certify(DESIGN, places, wrong, share_of(found + 0.005), ALPHA).tasks


def test_no_target_is_reached_where_half_is_wrong() -> None:
    assert reachable(DESIGN, *audit(50), ALPHA) is None
