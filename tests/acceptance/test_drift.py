"""Drift is found soon where there is some, and hardly ever where there is none, however often one looks."""

from __future__ import annotations

import numpy as np
import pytest

from mollm.acceptance.drift import ALARM, evidence
from mollm.records import BoolArray


def alarmed(right: BoolArray, target: float) -> bool:
    """Whether any look at the answers so far, one after each, withdraws the certificate."""
    return any(evidence(right[:n], target) >= ALARM for n in range(1, len(right) + 1))


@pytest.mark.parametrize("target", [0.7, 0.9, 0.95])
def test_a_false_alarm_is_rare_over_all_looks(target: float) -> None:
    streams = np.random.default_rng(1).random((400, 500)) < target
    assert np.mean([alarmed(right, target) for right in streams]) <= 1 / ALARM + 0.01


@pytest.mark.parametrize(("target", "worse"), [(0.95, 0.85), (0.9, 0.7)])
def test_three_times_the_errors_are_found(target: float, worse: float) -> None:
    streams = np.random.default_rng(2).random((200, 150)) < worse
    assert np.mean([alarmed(right, target) for right in streams]) >= 0.9


def test_no_answer_is_no_evidence() -> None:
    assert evidence(np.zeros(0, dtype=np.bool_), 0.95) == 1.0
