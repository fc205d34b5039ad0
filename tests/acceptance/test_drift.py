"""Drift is found soon where there is some, and hardly ever where there is none, however often one looks."""

from __future__ import annotations

import numpy as np
import pytest

from mollm.acceptance.drift import ALARM, evidence


@pytest.mark.parametrize("target", [0.7, 0.9, 0.95])
def test_a_false_alarm_is_rare_over_all_looks(target: float) -> None:
    rng = np.random.default_rng(1)
    alarms = [evidence(rng.random(2000) < target, target) >= ALARM for _ in range(1000)]
    assert np.mean(alarms) <= 1 / ALARM + 0.01


@pytest.mark.parametrize(("target", "worse"), [(0.95, 0.85), (0.9, 0.7)])
def test_three_times_the_errors_are_found(target: float, worse: float) -> None:
    rng = np.random.default_rng(2)
    found = [evidence(rng.random(150) < worse, target) >= ALARM for _ in range(200)]
    assert np.mean(found) >= 0.9


def test_no_answer_is_no_evidence() -> None:
    assert evidence(np.zeros(0, dtype=np.bool_), 0.95) == 1.0
