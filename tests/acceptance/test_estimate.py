"""The accuracy of the rest: its interval covers at every accuracy, also where the confidence is off."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import brentq
from scipy.special import expit, logit

from mollm.acceptance.estimate import accuracy, left_to_people, needed, pooled, powered
from mollm.errors import InputError
from mollm.records import BoolArray, FloatArray

K = 2000


def rest(share: float, off: float, rng: np.random.Generator) -> tuple[BoolArray, FloatArray]:
    """(K,) what is right, and a confidence that is off by so much on the log-odds."""
    hard = rng.normal(0, 2, K)
    middle = brentq(lambda at: float(expit(at + hard).mean()) - share, -30, 30)
    true = expit(middle + hard)
    return rng.random(K) < true, expit(logit(np.clip(true, 1e-6, 1 - 1e-6)) + off)


@pytest.mark.parametrize("share", [0.7, 0.9, 0.98])
@pytest.mark.parametrize("n", [30, 100, 300])
@pytest.mark.parametrize("off", [0.0, 1.0, -1.0])
def test_the_interval_covers(share: float, n: int, off: float) -> None:
    covered = 0
    for seed in range(400):
        rng = np.random.default_rng([seed, n])
        right, confidence = rest(share, off, rng)
        audit = rng.permutation(K)[:n]
        found = accuracy(right[audit], confidence[audit], confidence).estimate
        assert found is not None
        covered += found.low - 1e-12 <= right.mean() <= found.high + 1e-12
    assert covered / 400 >= 0.93


def test_the_confidence_of_all_makes_the_interval_narrower() -> None:
    rng = np.random.default_rng(1)
    right, confidence = rest(0.8, 0.0, rng)
    audit = rng.permutation(K)[:200]
    assert powered(confidence, 200)
    ours = accuracy(right[audit], confidence[audit], confidence).estimate
    flat = accuracy(right[audit], np.full(200, 0.8), np.full(K, 0.8)).estimate
    assert ours is not None
    assert flat is not None
    assert ours.high - ours.low < 0.9 * (flat.high - flat.low)


def test_before_any_audit_it_says_how_many_would_do() -> None:
    confidence = rest(0.9, 0.0, np.random.default_rng(2))[1]
    figure = accuracy(np.zeros(0, dtype=np.bool_), np.zeros(0), confidence)
    assert figure.estimate is None
    assert figure.reason == f"not known yet: answer {needed(confidence)} audits to know it to +- 5 points"
    widths = []
    for seed in range(40):
        rng = np.random.default_rng([seed, 5])
        right = rng.random(K) < confidence
        audit = rng.permutation(K)[: needed(confidence)]
        found = accuracy(right[audit], confidence[audit], confidence).estimate
        assert found is not None
        widths.append((found.high - found.low) / 2)
    assert 0.035 < np.mean(widths) < 0.055


def test_what_any_rule_leaves_to_people() -> None:
    assert left_to_people(0.9, 0.95) == pytest.approx(0.05 / 0.95)
    assert left_to_people(0.97, 0.95) == 0.0


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="do not fit"):
        accuracy(np.ones(2, dtype=np.bool_), np.ones(3), np.ones(5))


@pytest.mark.parametrize("share", [0.7, 0.9, 0.98])
@pytest.mark.parametrize("batches", [3, 20])
def test_the_interval_of_pooled_draws_covers(share: float, batches: int) -> None:
    """Each batch takes the most doubtful tasks away, so that each draw is of easier tasks than the last."""
    covered = 0
    for seed in range(400):
        rng = np.random.default_rng([seed, batches])
        right, confidence = rest(share, 0.0, rng)
        order = np.argsort(confidence)
        answers, means, sizes = [], [], rng.integers(3, 12, batches)
        for batch, n in enumerate(sizes):
            there = order[batch * 50 :]
            answers.append(right[rng.choice(there, n, replace=False)])
            means.append(float(right[there].mean()))
        found = pooled(answers)
        assert found.estimate is not None
        assert found.n == sizes.sum()
        covered += found.estimate.low - 1e-12 <= np.average(means, weights=sizes) <= found.estimate.high + 1e-12
    assert covered / 400 >= 0.93


def test_nothing_is_said_of_no_draws() -> None:
    assert pooled([]).estimate is None
    assert pooled([np.zeros(0, dtype=np.bool_)]).n == 0
