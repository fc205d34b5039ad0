"""The accuracy on the labelled tasks: what is stored of it, and that its interval covers."""

from __future__ import annotations

import numpy as np
import pytest

from mollm.metrics import wilson
from mollm_backend.jobs import accuracy


@pytest.mark.parametrize("truth", [0.6, 0.8, 0.95])
@pytest.mark.parametrize("heavy", [1.0, 5.0])
def test_the_interval_covers_at_unequal_weights(truth: float, heavy: float) -> None:
    """Tasks weigh 1 or `heavy` (labels accepted in bulk weigh a fifth); each is right with the same probability."""
    rng, n, covered = np.random.default_rng(0), 60, 0
    weights = np.where(rng.random(n) < 0.5, 1.0, heavy)
    right = rng.random((2000, n)) < truth
    for seen in right @ weights / weights.sum():
        found = accuracy.share(float(seen), weights.tolist())
        covered += found["low"] <= truth <= found["high"]
    assert 0.925 <= covered / 2000 <= 0.985


def test_tasks_of_one_weight_are_as_many_trials() -> None:
    found = accuracy.share(0.75, [0.2] * 40)
    plain = wilson(0.75, 40)
    assert (found["n"], found["value"]) == (40, 0.75)
    assert (found["low"], found["high"]) == pytest.approx((plain.low, plain.high))
