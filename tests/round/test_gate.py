"""The gate refuses a significantly worse version, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from mollm.round import gate


def losses(values: np.ndarray) -> dict[str, float]:
    return {f"label-{n}": float(value) for n, value in enumerate(values)}


def test_a_significantly_worse_candidate_is_refused_with_the_numbers() -> None:
    rng = np.random.default_rng(0)
    published = rng.exponential(0.5, 60)
    verdict = gate.compare(losses(published + rng.normal(0.3, 0.2, 60)), losses(published))
    assert not verdict.accepted
    assert verdict.labels == 60
    assert "refused: significantly worse" in verdict.line
    assert gate.compare(losses(published - 0.1), losses(published)).accepted


def test_the_test_is_the_paired_one_sided_t_test() -> None:
    rng = np.random.default_rng(1)
    before, after = rng.exponential(0.5, 40), rng.exponential(0.5, 40)
    expected = stats.ttest_rel(after, before, alternative="greater").pvalue
    assert gate.compare(losses(after), losses(before)).p_worse == pytest.approx(expected)


@pytest.mark.parametrize("count", [0, 1, gate.MIN_LABELS - 1])
def test_with_few_labels_nothing_is_refused(count: int) -> None:
    assert gate.compare(losses(np.full(count, 9.0)), losses(np.zeros(count))).accepted


def test_only_labels_that_both_have_scored_are_compared() -> None:
    shared = losses(np.zeros(50))
    worse_elsewhere = shared | {f"new-{n}": 9.0 for n in range(50)}
    assert gate.compare(worse_elsewhere, shared).labels == 50
    assert gate.compare(worse_elsewhere, shared).accepted


def test_worse_by_the_same_on_every_label_is_refused() -> None:
    assert not gate.compare(losses(np.full(50, 0.5)), losses(np.zeros(50))).accepted
