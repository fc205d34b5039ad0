"""A certificate a class: each class's promise is kept as often as promised, all of them together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from mollm.acceptance.by_class import ClassPlan, needed, plan
from mollm.acceptance.tails import simple_tail
from mollm.errors import InputError
from mollm.records import BoolArray, FloatArray, IntArray

NAMES = ("common", "middling", "small", "rare")
TARGET, ALPHA, LABELS = 0.9, 0.05, 300
AUDITS = 400


def population(level: float, seed: int) -> tuple[IntArray, FloatArray, BoolArray]:
    """Predicted classes of 3,000 tasks, their confidence (it falls, and is too high), and what is wrong."""
    rng = np.random.default_rng(seed)
    odds = np.sort(rng.normal(level, 1.5, 3000))[::-1]
    predicted = rng.choice(4, size=3000, p=[0.6, 0.3, 0.093, 0.007])
    wrong = rng.random(3000) < expit(-odds + np.array([0.4, 0.0, 0.8, 0.0])[predicted])
    return predicted, expit(odds + 0.5), wrong


def planned(predicted: IntArray, confidence: FloatArray, labels: int = LABELS) -> ClassPlan:
    return plan(predicted, confidence, NAMES, labels, target=TARGET, alpha=ALPHA, rng=np.random.default_rng(0))


@pytest.mark.parametrize("level", [1.0, 2.5, 4.0])
def test_the_promise_of_each_class_is_kept(level: float) -> None:
    predicted, confidence, wrong = population(level, 1)
    found = planned(predicted, confidence)
    kept = np.ones((AUDITS, len(found.parts)), dtype=np.bool_)
    for seed in range(AUDITS):
        rng = np.random.default_rng([seed, 2])
        for p, part in enumerate(found.parts):
            mine = wrong[part.members]
            places = part.before.design.draw(rng)
            certified = part.certify(places, mine[places], TARGET)
            left = np.setdiff1d(np.arange(certified.tasks), places)
            kept[seed, p] = mine[left].sum() <= (1 - TARGET) * len(left)
    assert kept.all(axis=1).mean() >= 1 - ALPHA


def test_it_certifies_where_the_class_is_good() -> None:
    predicted, confidence, wrong = population(5.0, 1)
    rng, shares = np.random.default_rng(5), []
    for part in planned(predicted, confidence).parts:
        for _ in range(40):
            places = part.before.design.draw(rng)
            found = part.certify(places, wrong[part.members][places], TARGET)
            shares.append(found.accepted / (len(part.members) - len(places)))
    assert np.mean(shares) > 0.5


def test_labels_are_shared_and_a_rare_class_is_named() -> None:
    predicted, confidence, _ = population(2.5, 1)
    found = planned(predicted, confidence)
    assert [part.label for part in found.parts] == ["common", "middling", "small"]
    counts = {part.label: part.before.design.labels for part in found.parts}
    assert sum(counts.values()) == LABELS
    assert counts["common"] > counts["middling"] > counts["small"]
    for part in found.parts:
        least = needed(len(part.members), TARGET, ALPHA / 3)
        assert least is not None
        assert counts[part.label] >= least
        assert part.alpha == pytest.approx(ALPHA / 3)
    (rare,) = found.left_out
    assert rare.label == "rare"
    assert rare.line.startswith(f"rare: {rare.tasks} tasks are left to people")
    every = np.concatenate([part.members for part in found.parts])
    assert sorted(every) == np.flatnonzero(predicted != 3).tolist()


def test_fewer_labels_leave_more_classes_out_and_the_level_of_the_rest_rises() -> None:
    predicted, confidence, _ = population(2.5, 1)
    found = planned(predicted, confidence, 60)
    assert [row.label for row in found.left_out] == ["middling", "small", "rare"]
    assert found.parts[0].alpha == ALPHA
    with pytest.raises(InputError, match="the largest needs"):
        planned(predicted, confidence, 20)


def test_the_fewest_audits_that_can_certify() -> None:
    many = needed(100_000, 0.95, 0.05)
    assert many is not None
    assert 0.95**many <= 0.0501 < 0.95 ** (many - 1)
    few = needed(100, 0.95, 0.05)
    assert few is not None

    def tail(n: int) -> float:
        rows = (np.array([value]) for value in (0, n, 100, int(0.05 * (100 - n) + 1e-9) + 1))
        return float(simple_tail(*rows)[0])

    assert tail(few) <= 0.05 < tail(few - 1)
    assert needed(2, 0.95, 0.05) is None
