"""The convex head: it learns, it is deterministic, its state is exact, and no class becomes impossible."""

from __future__ import annotations

import numpy as np
import pytest

from mollm.classifier.head import Head
from mollm.errors import InputError, ModelFileError, NotFittedError
from mollm.folds import folds
from mollm.losses import Rows
from mollm.records import FittedState, FloatArray, IntArray


def blobs(N: int = 200, D: int = 8, C: int = 3) -> tuple[FloatArray, IntArray]:
    rng = np.random.default_rng(0)
    label = rng.integers(C, size=N)
    return rng.normal(0, 1, (N, D)) + 4 * np.eye(C, D)[label], label


def plain(index: IntArray, label: IntArray, C: int = 3) -> Rows:
    return Rows(index, label, np.ones(len(index)), np.zeros((len(index), C), dtype=np.bool_))


def test_it_learns_blobs_from_thirty_rows() -> None:
    x, label = blobs()
    index = np.arange(30)
    head = Head(3).fit(x, plain(index, label[:30]))
    probs = head.predict_proba(x)
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    assert (probs.argmax(axis=1) == label)[30:].mean() > 0.97


def test_fewer_rows_than_dimensions_have_the_same_optimum() -> None:
    x, label = blobs(60, 40)
    few = Head(3, max_iter=2000).fit(x, plain(np.arange(20), label[:20]))
    twice = np.concatenate([np.arange(20)] * 3)  # 60 rows of a third of the weight: solved without the span
    rows = plain(twice, label[twice])
    same = Head(3, max_iter=2000, ridge=3.0).fit(x, Rows(rows.item, rows.label, rows.weight, rows.negatives))
    np.testing.assert_allclose(few.predict_proba(x), same.predict_proba(x), atol=1e-3)


def test_the_offset_is_all_there_is_without_rows() -> None:
    x, _ = blobs(10)
    offset = np.log(np.random.default_rng(1).dirichlet(np.ones(3), 10))
    head = Head(3).fit(x, plain(np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)), offset)
    np.testing.assert_allclose(head.predict_proba(x, offset), np.exp(offset))


def test_a_class_that_nobody_has_shown_stays_possible() -> None:
    x, _ = blobs(50)
    head = Head(3).fit(x, plain(np.arange(50), np.zeros(50, dtype=np.int64)))
    probs = head.predict_proba(x)
    assert np.isfinite(probs).all()
    assert probs[:, 1:].min() > 1e-6


def test_state_gives_equal_rows() -> None:
    x, label = blobs()
    head = Head(3, ridge=0.5).fit(x, plain(np.arange(50), label[:50]))
    again = Head.from_state(head.state())
    np.testing.assert_array_equal(again.predict_proba(x), head.predict_proba(x))


def test_bad_input_is_named() -> None:
    x, label = blobs()
    with pytest.raises(NotFittedError):
        Head(3).logits(x)
    with pytest.raises(InputError, match="3 classes"):
        Head(3).fit(x, plain(np.arange(4), label[:4], C=2))
    head = Head(3).fit(x, plain(np.arange(50), label[:50]))
    with pytest.raises(ModelFileError, match="8-dimensional"):
        head.logits(x[:, :5])
    with pytest.raises(ModelFileError, match="train again"):
        Head.from_state(FittedState("head", {"mean": np.zeros(8)}, {}))


def test_folds_keep_groups_together_and_spread_classes() -> None:
    groups = [f"g{n // 2}" for n in range(100)]
    label = np.full(100, -1)
    label[:20:2] = np.arange(10) % 2
    fold = folds(groups, 5, np.random.default_rng(0), label)
    assert (fold[::2] == fold[1::2]).all()
    assert set(fold) == set(range(5))
    for c in (0, 1):
        assert len(set(fold[np.flatnonzero(label == c)])) == 5
