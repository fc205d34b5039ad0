"""Figures of each class: they are the usual ones, their intervals cover, and what is unknown is not 0."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom
from sklearn.metrics import confusion_matrix, precision_recall_fscore_support

from mollm.acceptance.per_class import NO_OTHER, NO_PREDICTED, NO_TRUTH, PerClass, per_class
from mollm.errors import InputError
from mollm.metrics import Figure, clopper_pearson, effective
from mollm.records import FloatArray, IntArray

PRIORS = {3: (0.7, 0.2, 0.1), 6: (0.5, 0.2, 0.12, 0.08, 0.06, 0.04)}


def made_up(rng: np.random.Generator, C: int, accuracy: float, N: int = 3000) -> tuple[IntArray, IntArray]:
    """A pool: true and predicted labels (N,)."""
    truth = rng.choice(C, N, p=PRIORS[C])
    wrong = (truth + rng.integers(1, C, N)) % C
    return truth, np.where(rng.random(N) < accuracy, truth, wrong)


def drawn(rng: np.random.Generator, stratum: IntArray, n: int) -> tuple[IntArray, FloatArray]:
    """About n tasks, the same number of each stratum (N,), with their weights."""
    sizes = np.bincount(stratum)
    takes = np.minimum(n // np.count_nonzero(sizes), sizes)
    order = np.lexsort((rng.random(len(stratum)), stratum))
    within = np.arange(len(order)) - (np.cumsum(sizes) - sizes)[stratum[order]]
    index = order[within < takes[stratum[order]]]
    return index, (sizes / np.maximum(takes, 1))[stratum[index]]


def figures(found: PerClass) -> list[Figure]:
    return [figure for c in found.classes for figure in (c.precision, c.recall, c.f1)]


def from_table(table: list[list[int]], pool: list[int] | None = None) -> PerClass:
    """From sampled tasks of equal weight; rows are true labels."""
    counts = np.array(table)
    truth, predicted = (np.repeat(axis.ravel(), counts.ravel()) for axis in np.indices(counts.shape))
    pool_counts = counts.sum(axis=0) * 10 if pool is None else np.array(pool)
    return per_class(truth, predicted, np.ones(len(truth)), pool_counts)


@pytest.mark.slow
@pytest.mark.parametrize("strata", ["none", "predicted", "doubtful"])
@pytest.mark.parametrize("C", [3, 6])
@pytest.mark.parametrize("n", [30, 100])
@pytest.mark.parametrize("accuracy", [0.7, 0.9, 0.98])
def test_every_interval_covers(accuracy: float, n: int, C: int, strata: str) -> None:
    """Of 400 samples, by kind of figure over all classes, and by class where most samples give a figure."""
    covered = np.full((400, C, 3), np.nan)
    for seed in range(400):
        rng = np.random.default_rng([seed, n, C, round(100 * accuracy)])
        truth, predicted = made_up(rng, C, accuracy)
        doubtful = (rng.random(len(truth)) < np.where(truth == predicted, 0.2, 0.6)).astype(np.int64)
        stratum = {"none": np.zeros_like(truth), "predicted": predicted, "doubtful": doubtful}[strata]
        index, weight = drawn(rng, stratum, n)
        found = per_class(truth[index], predicted[index], weight, np.bincount(predicted, minlength=C))
        hits, true, said = (np.bincount(of, minlength=C) for of in (truth[truth == predicted], truth, predicted))
        right = np.stack([hits / said, hits / true, 2 * hits / (true + said)], axis=1)
        for place, figure in zip(np.ndindex(C, 3), figures(found), strict=True):
            if figure.estimate is not None:
                covered[seed][place] = figure.estimate.low <= right[place] <= figure.estimate.high
    assert np.all(np.nanmean(covered, axis=(0, 1)) >= 0.95)
    often = np.isfinite(covered).mean(axis=0) > 0.5
    assert often.sum() >= 6
    assert np.all(np.nanmean(covered, axis=0)[often] >= 0.93)


def test_a_plain_share_would_not_cover_recall_in_a_stratified_sample() -> None:
    """Why recall is a ratio: one unseen miss stands for many tasks."""
    covered = []
    for seed in range(400):
        rng = np.random.default_rng(seed)
        truth, predicted = made_up(rng, 3, 0.95)
        index, weight = drawn(rng, predicted, 300)
        is_c = truth[index] == 2
        w, hit = weight[is_c], (predicted[index] == 2)[is_c]
        plain = clopper_pearson(min(1.0, float(w @ hit / w.sum())), float(w.sum() ** 2 / (w @ w)))
        found = per_class(truth[index], predicted[index], weight, np.bincount(predicted, minlength=3)).classes[2].recall
        assert found.estimate is not None
        right = float(np.mean(predicted[truth == 2] == 2))
        covered.append([plain.low <= right <= plain.high, found.estimate.low <= right <= found.estimate.high])
    plain_share, ratio = np.mean(covered, axis=0)
    assert plain_share < 0.9
    assert ratio >= 0.95


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(2, 6), st.integers(1, 60), st.booleans())
def test_values_are_those_of_the_estimated_confusion_matrix(seed: int, C: int, n: int, stratified: bool) -> None:
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, C, (2, n))
    weight = rng.uniform(1, 50, n) if stratified else np.ones(n)
    pool = np.bincount(predicted, minlength=C) * rng.integers(1, 40, C)  # nothing of an unseen predicted label
    found = per_class(truth, predicted, weight, pool)
    assert np.array_equal(found.counts, confusion_matrix(truth, predicted, labels=range(C)))
    assert found.estimated.sum(axis=0) == pytest.approx(pool)
    cells = np.indices((C, C)).reshape(2, -1)
    right = precision_recall_fscore_support(
        *cells, labels=range(C), sample_weight=found.estimated.ravel(), zero_division=0
    )
    for figure, value in zip(figures(found), np.array(right[:3]).T.ravel(), strict=True):
        if figure.estimate is not None:
            assert figure.estimate.value == pytest.approx(value)
            assert 0 <= figure.estimate.low <= figure.estimate.value + 1e-12
            assert figure.estimate.value - 1e-12 <= figure.estimate.high <= 1
        assert (figure.estimate is None) == bool(figure.reason)
        assert figure.estimate is None or figure.n > 0


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 40), st.floats(0.1, 10))
def test_order_names_and_scale_of_weights_do_not_matter(seed: int, C: int, n: int, scale: float) -> None:
    rng = np.random.default_rng(seed)
    truth, predicted = rng.integers(0, C, (2, n))
    weight, pool = rng.uniform(1, 50, n), np.bincount(predicted, minlength=C) + rng.integers(0, 40, C)
    found = per_class(truth, predicted, weight, pool)
    name, order = rng.permutation(C), rng.permutation(n)
    renamed = np.zeros_like(pool)
    renamed[name] = pool
    other = per_class(name[truth][order], name[predicted][order], weight[order] * scale, renamed)
    assert other.counts[np.ix_(name, name)].tolist() == found.counts.tolist()
    for one, two in zip(found.classes, (other.classes[c] for c in name), strict=True):
        for kind in ("precision", "recall", "f1"):
            a, b = getattr(one, kind).as_json(), getattr(two, kind).as_json()
            assert (a.pop("reason"), a.pop("n")) == (b.pop("reason"), b.pop("n"))
            assert b == (pytest.approx(a, abs=1e-9) if a["value"] is not None else a)


def test_a_hundred_tasks_of_two_classes() -> None:
    found = from_table([[45, 5], [10, 40]])
    spam = found.classes[1]
    plain = clopper_pearson(40 / 45, 45)
    assert spam.precision.estimate is not None
    assert (spam.precision.estimate.low, spam.precision.estimate.high) == pytest.approx((plain.low, plain.high))
    assert found.lines(["ham", "spam"])[1] == "spam: " + ", ".join(
        ["precision 0.89 [0.76, 0.96] (n = 45)", "recall 0.80 [0.70, 0.89] (n = 50)", "F1 0.84 [0.75, 0.90] (n = 55)"]
    )
    assert json.loads(json.dumps(found.as_json()))["estimated"] == [[450, 50], [100, 400]]


def test_what_the_sample_does_not_show_is_unknown_with_a_reason() -> None:
    never_true = from_table([[5, 2], [0, 0]]).classes[1]
    assert never_true.recall == Figure(0, None, NO_TRUTH)
    assert never_true.f1.estimate is not None
    assert never_true.f1.estimate.value == 0

    found = from_table([[5, 0], [2, 0]], [50, 9])
    for figure, n in zip(figures(found)[3:], (0, 2, 2), strict=True):
        assert figure == Figure(n, None, NO_PREDICTED)
    assert [figure.estimate is None for figure in figures(found)[:3]] == [False, True, True]
    assert found.classes[0].recall == Figure(5, None, NO_OTHER)
    assert np.isnan(found.estimated).tolist() == [[False, True], [False, True]]
    assert "recall unknown: no sampled task has another predicted label (n = 5)" in found.lines(["a", "b"])[0]
    assert json.loads(json.dumps(found.as_json(), allow_nan=False))["estimated"][0][1] is None

    nothing = from_table([[0, 0], [0, 0]], [50, 9])
    assert [figure.estimate for figure in figures(nothing)] == [None] * 6


def test_what_the_pool_itself_shows_is_certain() -> None:
    """All tasks are predicted as the first class: all of it is found, and nothing of the second."""
    first, second = from_table([[5, 0], [2, 0]]).classes
    assert first.recall.line() == "1.00 [1.00, 1.00] (n = 5)"
    assert second.recall.line() == second.f1.line() == "0.00 [0.00, 0.00] (n = 2)"
    assert second.precision == Figure(0, None, NO_PREDICTED)


@pytest.mark.parametrize(
    ("truth", "predicted", "weight", "pool", "message"),
    [
        ([0, 1], [0], [1.0], [5, 5], "one true label"),
        ([0, 2], [0, 1], [1.0, 1.0], [5, 5], "not in 0..1"),
        ([0, 1], [0, -1], [1.0, 1.0], [5, 5], "not in 0..1"),
        ([0, 1], [0, 1], [1.0, 0.0], [5, 5], "not above 0"),
        ([0, 1], [0, 1], [1.0, float("nan")], [5, 5], "not above 0"),
        ([0, 1], [0, 1], [1.0, 1.0], [5, 0], "more tasks"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(
    truth: list[int], predicted: list[int], weight: list[float], pool: list[int], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        per_class(np.array(truth), np.array(predicted), np.array(weight), np.array(pool))


def test_the_exact_interval_is_the_published_one_and_covers_exactly() -> None:
    found = clopper_pearson(81 / 263, 263)  # Newcombe 1998, table I, method 5
    assert (found.low, found.high) == pytest.approx((0.2527, 0.3676), abs=1e-4)
    for n in (1, 4, 30):
        intervals = [clopper_pearson(x / n, n) for x in range(n + 1)]
        for share in np.linspace(0.01, 0.99, 99):
            chance = binom.pmf(range(n + 1), n, share)
            assert sum(p for p, i in zip(chance, intervals, strict=True) if i.low <= share <= i.high) >= 0.95


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(1, 50), st.floats(0.01, 100))
def test_trials_of_equal_weight_count_as_n(seed: int, n: int, weight: float) -> None:
    value = np.random.default_rng(seed).integers(0, 2, n).astype(np.float64)
    assert effective(value, np.full(n, weight)) == pytest.approx(n)
    assert effective(value * 0.5 + 0.25, np.full(n, weight)) > n - 1e-6
    assert effective(np.append(value, 0.0), np.append(np.ones(n), 1000.0)) < 1.1 * (n + 1000) ** 2 / (n + 1000**2)
