"""Agreement: the figures are those of the papers, their intervals cover, and names and order do not matter."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import cohen_kappa_score, confusion_matrix

from mollm.errors import InputError
from mollm.metrics import Figure
from mollm.people.agreement import (
    CONSTANT,
    MANY,
    MISSING,
    NO_PAIRS,
    ONE_LABEL,
    Agreement,
    between_people,
    confusion,
    labels_of,
    with_llms,
)
from mollm.records import FloatArray, IntArray

PRIORS = {2: (0.9, 0.1), 3: (0.7, 0.2, 0.1), 6: (0.5, 0.2, 0.12, 0.08, 0.06, 0.04)}
KRIPPENDORFF = """
    1 2 3 3 2 1 4 1 2 . . .
    1 2 3 3 2 2 4 1 2 5 . 3
    . 3 3 3 2 3 4 2 2 5 1 .
    1 2 3 3 2 4 4 1 2 5 1 .
"""
"""Krippendorff 2011, section C: four observers (rows), twelve units, five classes, missing values."""
COHEN = np.array([[88, 10, 2], [14, 40, 6], [18, 10, 12]])
"""Cohen 1968, table 1: two psychiatrists, 200 patients, three diagnoses; unweighted kappa is .492."""


def people_of(table: IntArray) -> Agreement:
    """`table` (tasks, raters), MISSING where a person gave none."""
    item, rater = np.nonzero(table != MISSING)
    return between_people(item, rater, table[item, rater], int(table.max(initial=1)) + 1)


def written(text: str) -> IntArray:
    """(tasks, raters) of labels from 1, `.` where missing."""
    rows = [[int(x) - 1 if x != "." else MISSING for x in line.split()] for line in text.strip().splitlines()]
    return np.array(rows).T


def pairs(table: IntArray) -> IntArray:
    """(tasks, 2): the two labels of each task that a table counts."""
    return np.stack([np.repeat(axis.ravel(), table.ravel()) for axis in np.indices(table.shape)], axis=1)


def value(figure: Figure) -> float:
    assert figure.estimate is not None, figure.reason
    return figure.estimate.value


def made_up(rng: np.random.Generator, n: int, C: int, accuracy: float, R: int) -> IntArray:
    """(n, R): labels of R raters who are each right with probability `accuracy`."""
    truth = rng.choice(C, n, p=PRIORS[C])[:, None]
    return np.where(rng.random((n, R)) < accuracy, truth, (truth + rng.integers(1, C, (n, R))) % C)


def true_values(C: int, accuracy: float) -> tuple[float, float]:
    """Raw agreement, and kappa and alpha (equal, as all raters are alike), of `made_up` without end."""
    confused = np.full((C, C), (1 - accuracy) / (C - 1))
    np.fill_diagonal(confused, accuracy)
    prior = np.array(PRIORS[C])
    same, chance = float(prior @ (confused**2).sum(axis=1)), float(((prior @ confused) ** 2).sum())
    return same, (same - chance) / (1 - chance)


@pytest.mark.slow
@pytest.mark.parametrize("C", [2, 3, 6])
@pytest.mark.parametrize("n", [30, 100])
@pytest.mark.parametrize("accuracy", [0.7, 0.9, 0.98])
def test_every_interval_covers(accuracy: float, n: int, C: int) -> None:
    """Of 400 samples: two people; five, of whom some skip a task; twelve; three as one rater against an LLM."""
    same, beyond = true_values(C, accuracy)
    covered: dict[str, list[bool]] = {}
    for seed in range(400):
        rng = np.random.default_rng([seed, n, C, round(100 * accuracy)])
        labels = made_up(rng, n, C, accuracy, 12)
        several = np.where(rng.random((n, 5)) < 0.7, labels[:, :5], MISSING)
        item, rater = np.nonzero(several[:, :3] != MISSING)
        found = {
            "two": people_of(labels[:, :2]),
            "five": people_of(several),
            "twelve": people_of(labels),
            "llm": with_llms(item, several[item, rater], labels[:, 5:6], C)[0],
        }
        for who, agreement in found.items():
            for kind, true in (("raw", same), ("kappa", beyond), ("alpha", beyond)):
                figure = getattr(agreement, kind)
                if figure.estimate is not None:
                    held = figure.estimate.low <= true <= figure.estimate.high
                    covered.setdefault(f"{who} {kind}", []).append(held)
    assert len(covered) == 10  # no kappa of five, nor of twelve
    assert min(len(held) for held in covered.values()) > 350
    assert {which: np.mean(held) for which, held in covered.items() if np.mean(held) < 0.93} == {}


def test_the_intervals_become_narrow() -> None:
    """Twice as narrow with four times the tasks, and narrower with more people."""
    rng = np.random.default_rng(0)

    def width(n: int, R: int) -> float:
        figure = people_of(made_up(rng, n, 3, 0.9, R)).alpha
        assert figure.estimate is not None
        return figure.estimate.high - figure.estimate.low

    assert width(4000, 2) < 0.55 * width(1000, 2)
    assert width(1000, 5) < 0.8 * width(1000, 2)


def test_krippendorffs_own_examples() -> None:
    four = people_of(written(KRIPPENDORFF))
    assert value(four.alpha) == pytest.approx(0.743, abs=5e-4)
    assert four.n == 11
    assert four.kappa == Figure(11, None, MANY)
    letters = written("1 1 2 2 4 3 3 3 5 4 4 1\n2 1 2 2 2 3 3 3 5 4 4 4")  # section B: Ben and Gerry
    assert value(people_of(letters).alpha) == pytest.approx(0.692, abs=5e-4)
    binary = written("1 2 1 1 1 1 1 1 2 1\n2 2 2 1 1 2 1 1 1 1")  # section A: Meg and Owen
    assert value(people_of(binary).alpha) == pytest.approx(0.095, abs=5e-4)


def test_cohens_own_example_between_people_and_with_an_llm() -> None:
    table = pairs(COHEN)
    between = people_of(table)
    assert value(between.raw) == pytest.approx(0.70)
    assert value(between.kappa) == pytest.approx(0.492, abs=5e-4)
    assert with_llms(np.arange(200), table[:, 0], table[:, 1:], 3) == (between,)
    assert confusion(np.arange(200), table[:, 0], table[:, 1:], 3).tolist() == [COHEN.tolist()]


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 40))
def test_kappa_and_confusion_are_those_of_scikit_learn(seed: int, C: int, n: int) -> None:
    rng = np.random.default_rng(seed)
    people, llm = rng.integers(0, C, (2, n))
    said = np.where(rng.random(n) < 0.8, llm, MISSING)
    answered = said != MISSING
    (found,) = with_llms(np.arange(n), people, said[:, None], C)
    assert found.n == answered.sum()
    right = confusion_matrix(people[answered], said[answered], labels=range(C)) if found.n else np.zeros((C, C))
    assert np.array_equal(confusion(np.arange(n), people, said[:, None], C)[0], right)
    if found.kappa.estimate is None:
        assert found.kappa.reason in (CONSTANT, NO_PAIRS)
    else:
        assert value(found.kappa) == pytest.approx(cohen_kappa_score(people[answered], said[answered]))


def as_lists(found: Agreement) -> list[Any]:
    """All that a person reads, with figures to nine digits."""
    rounded = [{k: round(v, 9) if isinstance(v, float) else v for k, v in figure.as_json().items()} for figure in (
        found.raw, found.kappa, found.alpha
    )]  # fmt: skip
    return [found.n, *rounded]


@settings(deadline=None, max_examples=80)
@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 30), st.integers(1, 5), st.floats(0, 1))
def test_order_and_names_do_not_matter(seed: int, C: int, N: int, R: int, present: float) -> None:
    rng = np.random.default_rng(seed)
    item, rater = np.nonzero(rng.random((N, R)) < present)
    label, said = rng.integers(0, C, len(item)), rng.integers(MISSING, C, (N, 2))
    order, name, place = rng.permutation(len(item)), rng.permutation(C), rng.permutation(N)
    other = place[item][order], name[label][order]
    said_other = np.empty_like(said)
    said_other[place] = np.where(said == MISSING, MISSING, name[said])

    found = between_people(item, rater, label, C)
    renamed = between_people(other[0] * 7 - 3, 9 - rater[order], other[1], C)
    assert as_lists(found) == as_lists(renamed)
    with_both = with_llms(item, label, said, C)
    assert [as_lists(a) for a in with_both] == [as_lists(a) for a in with_llms(*other, said_other, C)]
    counts = confusion(item, label, said, C)
    assert np.array_equal(confusion(*other, said_other, C)[:, name][:, :, name], counts)
    for agreement in (found, *with_both):
        for figure in (agreement.raw, agreement.kappa, agreement.alpha):
            assert (figure.estimate is None) == bool(figure.reason)
            if figure.estimate is not None:
                assert -1 <= figure.estimate.low <= figure.estimate.value <= figure.estimate.high <= 1


def test_several_people_are_one_rater_of_each_task() -> None:
    """Task 0: two of three agree with the LLM; task 1: its only person does; task 2: the LLM abstained."""
    item, label = np.array([0, 0, 0, 1, 2]), np.array([0, 0, 1, 1, 0])
    (found,) = with_llms(item, label, np.array([[0], [1], [MISSING]]), 2)
    assert found.n == 2
    assert value(found.raw) == pytest.approx((2 / 3 + 1) / 2)
    assert confusion(item, label, np.array([[0], [1], [MISSING]]), 2).tolist() == [[[2, 0], [1, 1]]]


def test_where_a_figure_is_not_defined_it_is_unknown_with_a_reason() -> None:
    constant = people_of(np.array([[0, 0], [0, 1], [0, 2]]))
    assert constant.kappa == Figure(3, None, CONSTANT)
    assert constant.alpha.estimate is not None
    equal = people_of(np.array([[1, 1], [1, 1]]))
    assert (equal.kappa.reason, equal.alpha.reason, value(equal.raw)) == (CONSTANT, ONE_LABEL, 1.0)
    alone = people_of(np.array([[1, MISSING], [MISSING, 0]]))
    assert (alone.raw, alone.kappa, alone.alpha) == (Figure(0, None, NO_PAIRS),) * 3
    nothing = np.zeros(0, dtype=np.int64)
    assert between_people(nothing, nothing, nothing, 3).n == 0
    assert [found.n for found in with_llms(nothing, nothing, np.zeros((4, 2), dtype=np.int64), 3)] == [0, 0]


def test_lines_and_json_say_the_same() -> None:
    found = people_of(pairs(COHEN))
    assert found.lines() == [
        "the same label: 0.70 [0.63, 0.76] (n = 200)",
        "Cohen's kappa (0: as chance, 1: always): 0.49 [0.38, 0.60] (n = 200)",
        "Krippendorff's alpha (0: as chance, 1: always): 0.49 [0.37, 0.60] (n = 200)",
    ]
    read = json.loads(json.dumps(found.as_json()))
    assert read["kappa"]["value"] == value(found.kappa)
    assert people_of(np.array([[0, 0], [0, 1]])).lines()[1].endswith(f"unknown: {CONSTANT} (n = 2)")


def test_an_llm_that_said_nothing_has_no_label() -> None:
    probs: FloatArray = np.array([[[0.1, 0.3], [np.nan, np.nan]], [[0.0, 0.0], [0.6, 0.2]]])
    assert labels_of(probs).tolist() == [[1, MISSING], [MISSING, 0]]


def test_arrays_that_do_not_fit_are_refused() -> None:
    one, said = np.array([0, 0]), np.array([[0]])
    with pytest.raises(InputError, match="one label for each person and task"):
        between_people(one, one, one, 2)
    with pytest.raises(InputError, match="one item"):
        between_people(one, one, np.array([0]), 2)
    with pytest.raises(InputError, match="label is not in"):
        between_people(one, np.array([0, 1]), np.array([0, 2]), 2)
    with pytest.raises(InputError, match="LLM's label"):
        with_llms(one, one, np.array([[2]]), 2)
    with pytest.raises(InputError, match="no row"):
        confusion(np.array([0, 1]), one, said, 2)
