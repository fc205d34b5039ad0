"""People who are right more often weigh more; where nobody overlaps, everybody weighs one."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mollm.errors import InputError
from mollm.people import reliability
from mollm.records import FloatArray, IntArray

Crowd = tuple[IntArray, IntArray, IntArray, IntArray]


def crowd(accuracy: tuple[float, ...], C: int, seed: int, *, tasks: int = 150, overlap: float = 0.5) -> Crowd:
    """Gold (tasks,), and the item, person and label of each row; the first tasks are labelled by several people."""
    rng = np.random.default_rng(seed)
    P = len(accuracy)
    gold = rng.integers(0, C, tasks)
    by = rng.random((tasks, P)) < np.where(np.arange(tasks) < overlap * tasks, 0.6, 1 / P)[:, None]
    item, person = np.nonzero(by)
    right = rng.random(len(item)) < np.array(accuracy)[person]
    return gold, item, person, np.where(right, gold[item], (gold[item] + rng.integers(1, C, len(item))) % C)


def decided(gold: IntArray, item: IntArray, label: IntArray, weight: FloatArray, C: int) -> float:
    """The share of the tasks whose heaviest label is right."""
    score = np.zeros((len(gold), C))
    np.add.at(score, (item, label), weight)
    asked = score.sum(axis=1) > 0
    return float((score.argmax(axis=1) == gold)[asked].mean())


@pytest.mark.parametrize("C", [2, 5])
def test_the_careless_are_found_and_the_careful_decide(C: int) -> None:
    gains, values = [], []
    for seed in range(20):
        gold, item, person, label = crowd((0.95, 0.9, 0.6), C, seed)
        found = reliability.combine(item, person, label, np.ones(len(item)), C)
        values.append([one.reliability.value for one in found.people if one.reliability])
        gains.append(decided(gold, item, label, found.weight, C) - decided(gold, item, label, np.ones(len(item)), C))
    assert np.mean(gains) > 0.02
    assert np.mean(values, axis=0)[2] < 0.75
    assert np.mean(values, axis=0)[:2].min() > 0.84


def test_the_interval_holds_the_true_reliability() -> None:
    held = []
    for seed in range(60):
        _, item, person, label = crowd((0.95, 0.85, 0.7), 4, seed, tasks=200, overlap=1.0)
        for one, true in zip(
            reliability.combine(item, person, label, np.ones(len(item)), 4).people, (0.95, 0.85, 0.7), strict=True
        ):
            assert one.reliability is not None
            held.append(one.reliability.low <= true <= one.reliability.high)
    assert np.mean(held) >= 0.85  # the truth behind them is inferred, and the mean is shared: not quite 95 %


def test_where_nobody_overlaps_everything_weighs_one() -> None:
    item, person = np.arange(6), np.array([0, 0, 1, 1, 2, 2])
    found = reliability.combine(item, person, np.array([0, 1, 0, 1, 0, 1]), np.ones(6), 2)
    assert found.weight.tolist() == [1.0] * 6
    assert [(one.labels, one.shared, one.reliability) for one in found.people] == [(2, 0, None)] * 3
    nobody = reliability.combine(*(np.array([], dtype=np.int64),) * 3, np.array([]), 2)
    assert len(nobody.weight) == len(nobody.people) == 0


def test_who_never_overlaps_weighs_one_beside_people_who_do() -> None:
    _, item, person, label = crowd((0.9, 0.6), 3, 0)
    item, person, label = np.append(item, 999), np.append(person, 2), np.append(label, 1)
    found = reliability.combine(item, person, label, np.ones(len(item)), 3)
    assert found.weight[-1] == 1.0
    assert found.people[2].agreement is None


def test_two_who_agree_share_about_one_label_and_two_who_differ_say_little() -> None:
    item, person = np.repeat(np.arange(40), 2), np.tile([0, 1], 40)
    label = np.repeat(np.arange(40) % 2, 2)
    label[1] = 1 - label[0]  # the only task on which they differ
    found = reliability.combine(item, person, label, np.ones(80), 2)
    assert found.weight[:2].tolist() == [reliability.LEAST] * 2
    assert 0.9 < found.weight[2:4].sum() < 1.3
    agreement = found.people[0].agreement
    assert agreement is not None
    assert agreement.value == pytest.approx(39 / 40)
    assert agreement.low < 39 / 40 < agreement.high < 1


def test_one_shared_task_hardly_moves_anybody() -> None:
    item, person = np.array([0, 0, *range(1, 21)]), np.array([0, 1, *[0] * 10, *[1] * 10])
    label = np.zeros(22, dtype=np.int64)
    label[1] = 1
    found = reliability.combine(item, person, label, np.ones(22), 3)
    assert np.all(found.weight[2:] > 0.85)


def test_a_label_that_was_only_accepted_is_no_proof_of_reliability() -> None:
    item, person = np.repeat(np.arange(30), 2), np.tile([0, 1], 30)
    label = np.zeros(60, dtype=np.int64)
    judged, accepted = (
        reliability.combine(item, person, label, np.full(60, evidence), 3).people[0].reliability
        for evidence in (1.0, 0.1)
    )
    assert judged is not None
    assert accepted is not None
    assert judged.low > accepted.low


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 6), st.integers(1, 5), st.integers(0, 60))
def test_any_crowd_gets_finite_weights_whoever_comes_first(seed: int, C: int, P: int, H: int) -> None:
    rng = np.random.default_rng(seed)
    item, person, label = rng.integers(0, 12, H), rng.integers(0, P, H), rng.integers(0, C, H)
    evidence = rng.random(H)
    found = reliability.combine(item, person, label, evidence, C)
    assert np.all(np.isfinite(found.weight))
    assert np.all(found.weight > 0)
    order = rng.permutation(H)
    again = reliability.combine(item[order] * 7, person[order], label[order], evidence[order], C)
    assert np.allclose(again.weight, found.weight[order], atol=1e-4)


def test_arrays_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError):
        reliability.combine(np.arange(3), np.arange(3), np.arange(2), np.ones(3), 3)
