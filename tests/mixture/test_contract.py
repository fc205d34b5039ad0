"""The contract, over every aggregator in mollm/mixture: a new file is tested before its author writes a test."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from mollm.errors import InputError, ModelFileError, NotFittedError
from mollm.mixture import Mixture, aggregators, from_state
from mollm.records import FloatArray, Pool, Signals, Targets
from tests.synthetic import Synthetic, synthetic

KINDS = list(aggregators().values())
DATA = synthetic(N=160, text=6)


@pytest.fixture(params=KINDS, ids=[kind.name for kind in KINDS])
def kind(request: pytest.FixtureRequest) -> type[Mixture]:
    return request.param


def test_the_name_is_the_files(kind: type[Mixture]) -> None:
    assert aggregators()[kind.name] is kind
    assert kind.__module__.rpartition(".")[2] == kind.name


def fit(kind: type[Mixture], data: Synthetic, targets: Targets, *, text: bool = True) -> Mixture:
    embeddings = data.embeddings if text else None
    return kind().fit(Pool(data.signals, targets, embeddings), rng=np.random.default_rng(7))


def check_rows(rows: FloatArray, N: int, C: int) -> None:
    assert rows.shape == (N, C)
    assert np.isfinite(rows).all()
    assert (rows >= 0).all()
    np.testing.assert_allclose(rows.sum(axis=1), 1.0, atol=1e-9)


@pytest.mark.parametrize("human", [0, 1, 12, 40])
@pytest.mark.parametrize("text", [True, False])
def test_rows_sum_to_one(kind: type[Mixture], human: int, text: bool) -> None:
    fitted = fit(kind, DATA, DATA.targets(human), text=text)
    check_rows(fitted.predict_proba(DATA.signals, DATA.embeddings if text else None), 160, 3)
    assert fitted.explain()


def test_better_than_chance(kind: type[Mixture]) -> None:
    rows = fit(kind, DATA, DATA.targets(40)).predict_proba(DATA.signals, DATA.embeddings)
    assert (rows.argmax(axis=1) == DATA.gold).mean() > 0.65


def test_inputs_are_untouched(kind: type[Mixture]) -> None:
    data = synthetic(N=80, text=4)
    targets = data.targets(20)
    assert data.embeddings is not None
    arrays = (
        data.signals.label_probs,
        data.signals.votes,
        data.embeddings,
        targets.index,
        targets.label,
        targets.weight,
    )
    before = [array.copy() for array in arrays]
    fit(kind, data, targets).predict_proba(data.signals, data.embeddings)
    for old, new in zip(before, arrays, strict=True):
        np.testing.assert_array_equal(old, new)


def test_permuting_items_permutes_rows(kind: type[Mixture]) -> None:
    targets, order = DATA.targets(30), np.random.default_rng(3).permutation(160)
    place = np.argsort(order)
    assert DATA.embeddings is not None
    rows = fit(kind, DATA, targets).predict_proba(DATA.signals, DATA.embeddings)
    moved = Synthetic(DATA.signals.take(order), DATA.gold[order], DATA.embeddings[order])
    again = fit(kind, moved, Targets.of(place[targets.index], targets.label))
    np.testing.assert_allclose(again.predict_proba(moved.signals, moved.embeddings), rows[order], atol=1e-4)


def test_permuting_annotators_changes_nothing_after_a_refit(kind: type[Mixture]) -> None:
    targets, order = DATA.targets(30), [2, 0, 1]
    s = DATA.signals
    moved = replace(
        s,
        annotators=tuple(s.annotators[m] for m in order),
        label_probs=s.label_probs[:, order],
        votes=s.votes[:, order],
    )
    rows = fit(kind, DATA, targets).predict_proba(s, DATA.embeddings)
    again = fit(kind, replace(DATA, signals=moved), targets).predict_proba(moved, DATA.embeddings)
    np.testing.assert_allclose(again, rows, atol=1e-9)


def silenced(signals: Signals, *, missing: int, abstaining: int) -> Signals:
    """One annotator missing on a third of the items, one abstaining on another third; nobody on the first item."""
    probs, votes = signals.label_probs.copy(), signals.votes.copy()
    third = len(probs) // 3
    probs[:third, missing] = votes[:third, missing] = np.nan
    probs[third : 2 * third, abstaining] = votes[third : 2 * third, abstaining] = 0.0
    probs[0] = votes[0] = np.nan
    return replace(signals, label_probs=probs, votes=votes)


@pytest.mark.parametrize("human", [0, 30])
def test_missing_and_abstaining_annotators_never_yield_nan(kind: type[Mixture], human: int) -> None:
    data = replace(DATA, signals=silenced(DATA.signals, missing=0, abstaining=1))
    rows = fit(kind, data, data.targets(human)).predict_proba(data.signals, data.embeddings)
    check_rows(rows, 160, 3)


@pytest.mark.parametrize("human", [0, 1, 30])
@pytest.mark.parametrize("text", [True, False])
def test_save_and_load_give_equal_rows(kind: type[Mixture], human: int, text: bool) -> None:
    fitted = fit(kind, DATA, DATA.targets(human), text=text)
    embeddings = DATA.embeddings if text else None
    state = fitted.state()
    written = replace(state, facts=json.loads(json.dumps(state.facts)))
    loaded = from_state(written)
    assert type(loaded) is kind
    np.testing.assert_array_equal(
        loaded.predict_proba(DATA.signals, embeddings), fitted.predict_proba(DATA.signals, embeddings)
    )
    assert loaded.explain() == fitted.explain()


def test_another_panel_or_label_order_raises(kind: type[Mixture]) -> None:
    fitted = fit(kind, DATA, DATA.targets(20))
    s = DATA.signals
    others = [
        replace(s, labels=s.labels[::-1]),
        replace(s, annotators=s.annotators[::-1]),
        s.with_annotator("another", s.label_probs[:, 0]),
    ]
    for other in others:
        with pytest.raises(ModelFileError, match="refit"):
            fitted.predict_proba(other, DATA.embeddings)


def test_predicting_before_fitting_raises(kind: type[Mixture]) -> None:
    with pytest.raises(NotFittedError, match="fit first"):
        kind().predict_proba(DATA.signals)


def test_the_state_of_another_kind_raises(kind: type[Mixture]) -> None:
    state = fit(kind, DATA, DATA.targets(0)).state()
    with pytest.raises(ModelFileError):
        kind.from_state(replace(state, kind="another"))


def test_targets_outside_the_pool_raise(kind: type[Mixture]) -> None:
    for index, label in (([160], [0]), ([-1], [0]), ([0], [3])):
        with pytest.raises(InputError, match="human label"):
            fit(kind, DATA, Targets.of(index, label))


def test_the_same_seed_gives_the_same_rows(kind: type[Mixture]) -> None:
    one, two = (fit(kind, DATA, DATA.targets(30)).predict_proba(DATA.signals, DATA.embeddings) for _ in range(2))
    np.testing.assert_array_equal(one, two)
