"""Before any label the pool weighs its annotators by what they seem worth; it seldom loses against equal weights."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest

from mollm import recording
from mollm.mixture.evidence import Centring
from mollm.mixture.ladder import Ladder
from mollm.mixture.logpool import LogPool
from mollm.mixture.skills import agreements, one_factor, shares
from mollm.mixture.sureness import worths
from mollm.mixture.text_check import TextCheck
from mollm.mixture.text_view import RIDGE
from mollm.records import FittedState, FloatArray, IntArray, Pool, Signals, Targets
from tests.synthetic import synthetic

RECORDINGS = Path(os.environ.get("MOLLM_RECORDINGS", str(Path(__file__).parents[3] / "shared" / "recordings")))


def shares_of(signals: Signals, embeddings: FloatArray | None = None) -> FloatArray:
    return shares(Pool(signals, embeddings=embeddings), Centring.of(signals))


def right(
    signals: Signals, gold: IntArray, given: FloatArray | None = None, embeddings: FloatArray | None = None
) -> float:
    pool = LogPool(None, given).fit(Pool(signals, embeddings=embeddings), rng=np.random.default_rng(0))
    return float((pool.predict_proba(signals).argmax(axis=1) == gold).mean())


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_member_that_is_far_better_is_not_outvoted(place: int) -> None:
    """Weak members that make the same mistakes agree with each other most: agreement alone trusts the wrong ones."""
    accuracy = [0.6, 0.6]
    accuracy.insert(place, 0.9)
    gains, behind = [], []
    for seed in range(3):
        data = synthetic(
            N=600, accuracy=accuracy, priors=(0.3, 0.25, 0.25, 0.2), correlation=0.9, text=24, seed=seed
        )  # fmt: skip
        assert shares_of(data.signals, data.embeddings).argmax() == place
        best = float((data.signals.label_probs[:, place].argmax(axis=1) == data.gold).mean())
        pooled = right(data.signals, data.gold, embeddings=data.embeddings)
        gains.append(pooled - right(data.signals, data.gold, np.ones(3)))
        behind.append(best - pooled)
    assert np.mean(gains) > 0.04
    assert np.mean(behind) < 0.005


def test_without_texts_agreement_speaks_alone() -> None:
    gains = []
    for seed in range(3):
        data = synthetic(N=1000, accuracy=(0.6, 0.9, 0.6, 0.6), seed=seed)
        assert shares_of(data.signals).argmax() == 1
        gains.append(right(data.signals, data.gold) - right(data.signals, data.gold, np.ones(4)))
    assert np.mean(gains) > 0.005


def test_without_texts_no_skill_is_read_from_agreement_that_is_hardly_above_chance() -> None:
    """One good member among useless ones agrees with nobody: two that share mistakes must not outvote it further."""
    gains = []
    for seed in range(8):
        data = synthetic(N=1000, accuracy=(0.9, 0.34, 0.34), seed=seed)
        gains.append(right(data.signals, data.gold) - right(data.signals, data.gold, np.ones(3)))
    assert np.mean(gains) > -0.02
    assert min(gains) > -0.05


def test_who_is_unsure_where_two_disagree_is_worth_less() -> None:
    rng = np.random.default_rng(0)
    said = np.stack([np.zeros(400), np.where(rng.random(400) < 0.3, 1, 0)], axis=1).astype(np.int64)
    margin = rng.gamma(4.0, 1.0, (400, 2))
    margin[said[:, 1] == 1, 1] /= 3
    found = worths(margin, said)
    assert found[0] > 0.3 > -0.3 > found[1]
    np.testing.assert_allclose(worths(10 * margin, said), found)  # being loud is no evidence
    np.testing.assert_allclose(worths(np.ones((400, 2)), said), 0, atol=1e-9)


def test_texts_explain_answers_that_follow_them_and_no_coin() -> None:
    data = synthetic(N=500, accuracy=(0.9,), text=24)
    check = TextCheck.of(Pool(data.signals, embeddings=data.embeddings))
    assert check is not None
    gold, coin = data.gold[check.items], np.random.default_rng(0).integers(0, 3, 500)
    assert (check.told(gold, 3) == gold).mean() > 0.7
    assert (check.told(coin, 3) == coin).mean() < 0.4
    assert TextCheck.of(Pool(data.signals)) is None
    assert TextCheck.of(Pool(data.signals, embeddings=np.full((500, 4), np.nan))) is None


def test_each_item_is_left_out_of_what_its_text_is_told_by() -> None:
    data = synthetic(N=60, text=8)
    check = TextCheck.of(Pool(data.signals, embeddings=data.embeddings))
    assert check is not None
    said = data.gold[check.items]
    Y = np.eye(3)[said] - np.eye(3)[said].mean(axis=0)
    for n in range(0, 60, 20):
        rest = np.arange(60) != n
        E = check.E[rest]
        fitted = check.E[n] @ np.linalg.solve(E.T @ E + RIDGE * np.eye(8), E.T @ Y[rest])
        assert check.told(said, 3)[n] == (fitted + np.eye(3)[said].mean(axis=0)).argmax()


def test_copies_of_a_text_count_once() -> None:
    data = synthetic(N=100, text=8)
    assert data.embeddings is not None
    twice = np.r_[np.arange(100), np.arange(100)]
    signals = replace(data.signals.take(twice), items=tuple(f"{n:03d}" for n in range(200)))
    groups = tuple(f"text {n}" for n in twice)
    check = TextCheck.of(Pool(signals, embeddings=data.embeddings[twice], groups=groups))
    assert check is not None
    assert sorted(check.items.tolist()) == list(range(100))


@pytest.mark.parametrize("text", [0, 24])
@pytest.mark.parametrize("accuracy", [(0.8, 0.8, 0.8, 0.8), (0.7, 0.7, 0.7), (0.75, 0.75)])
def test_equals_weigh_nearly_alike(accuracy: tuple[float, ...], text: int) -> None:
    losses = []
    for seed in range(4):
        data = synthetic(N=400, accuracy=accuracy, text=text, seed=seed)
        found = shares_of(data.signals, data.embeddings)
        assert found.mean() == pytest.approx(1)
        equal = right(data.signals, data.gold, np.ones(len(accuracy)))
        losses.append(equal - right(data.signals, data.gold, embeddings=data.embeddings))
    assert np.mean(losses) < 0.01


@pytest.mark.parametrize("N", [1, 2, 3, 10, 30])
def test_few_items_tell_little(N: int) -> None:
    data = synthetic(N=2000, accuracy=(0.9, 0.6, 0.6), text=8)
    assert data.embeddings is not None
    few = shares_of(data.signals.take(np.arange(N)), data.embeddings[:N])
    assert np.isfinite(few).all()
    assert np.ptp(few) < 0.75 * np.ptp(shares_of(data.signals, data.embeddings))


def test_one_label_leaves_nothing_to_weigh() -> None:
    one = Signals(("a", "b"), ("x", "y"), ("only",), np.ones((2, 2, 1)), np.ones((2, 2, 1)))
    assert shares_of(one).tolist() == [1, 1]


def test_who_says_nothing_changes_nothing_for_the_others() -> None:
    data = synthetic(N=500, accuracy=(0.9, 0.7, 0.7))
    silent = data.signals.with_annotator("zz", np.zeros((500, 3)))
    np.testing.assert_allclose(shares_of(silent)[:3], shares_of(data.signals))
    assert right(silent, data.gold) == right(data.signals, data.gold)


@pytest.mark.parametrize("text", [0, 24])
def test_who_contradicts_all_the_others_has_the_least_share(text: int) -> None:
    """Also where its lies follow the texts as well as the truth does."""
    data = synthetic(N=800, accuracy=(0.8, 0.8, 0.8), text=text)
    lie = 0.01 + 0.97 * np.eye(3)[(data.gold + 1) % 3]
    signals = data.signals.with_annotator("zz", lie)
    found = shares_of(signals, data.embeddings)
    assert found.argmin() == 3
    assert found[3] < 0.8
    assert right(signals, data.gold, embeddings=data.embeddings) > right(signals, data.gold, np.ones(4)) + 0.02


@pytest.mark.parametrize("text", [0, 24])
def test_the_order_of_items_and_annotators_changes_nothing(text: int) -> None:
    data = synthetic(N=200, accuracy=(0.9, 0.6, 0.7), text=text)
    signals, order = data.signals, np.random.default_rng(0).permutation(200)
    turned = replace(
        signals.take(order), annotators=signals.annotators[::-1],
        label_probs=signals.label_probs[order][:, ::-1], votes=signals.votes[order][:, ::-1],
    )  # fmt: skip
    embeddings = None if data.embeddings is None else data.embeddings[order]
    np.testing.assert_allclose(shares_of(turned, embeddings), shares_of(signals, data.embeddings), atol=1e-9)


def test_agreement_counts_beyond_chance_where_both_speak() -> None:
    said = np.array([[0, 0, -1], [1, 1, 0], [0, 1, 1], [1, 0, 1]])
    agreement, both = agreements(said, 2)
    assert agreement[0, 1] == 0  # equal on half of the items, as two coins are
    assert both[0].tolist() == [0, 4, 3]
    np.testing.assert_allclose(np.diag(agreement), 1)
    loading = np.array([0.9, 0.6, 0.5])
    made = np.outer(loading, loading)
    np.fill_diagonal(made, 1)
    np.testing.assert_allclose(one_factor(made), loading, atol=1e-3)


def test_a_state_without_shares_weighs_alike_as_it_did() -> None:
    data = synthetic(N=300, accuracy=(0.9, 0.6, 0.6))
    pool = LogPool(None, np.ones(3)).fit(Pool(data.signals, Targets.of([], [])), rng=np.random.default_rng(0))
    state = pool.state()
    old = FittedState(state.kind, {name: rows for name, rows in state.arrays.items() if name != "shares"}, state.facts)
    again = LogPool.from_state(old)
    np.testing.assert_allclose(again.predict_proba(data.signals), pool.predict_proba(data.signals))


@pytest.mark.parametrize("name", ["trec", "imdb"])
def test_no_panel_of_real_annotators_falls_clearly_below_equal_weights(name: str) -> None:
    if not (RECORDINGS / name).is_dir():
        pytest.skip(f"the recording {name} is not at {RECORDINGS}: set MOLLM_RECORDINGS")
    whole = recording.load(RECORDINGS / name)
    gains: dict[tuple[int, ...], float] = {}
    for panel in (ms for k in (3, 4, 5) for ms in combinations(range(5), k)):
        chosen, names = list(panel), tuple(whole.signals.annotators[m] for m in panel)
        signals = replace(
            whole.signals, annotators=names,
            label_probs=whole.signals.label_probs[:, chosen], votes=whole.signals.votes[:, chosen],
        )  # fmt: skip
        gains[panel] = right(signals, whole.gold) - right(signals, whole.gold, np.ones(len(panel)))
    assert min(gains.values()) > -0.01  # no texts are given here
    assert gains[tuple(range(5))] > 0
    assert np.mean(list(gains.values())) > 0.001


def test_what_learned_from_the_panel_has_the_share_of_one() -> None:
    """A classifier agrees with those who taught it: that says nothing of how right they are."""
    data = synthetic(N=600, accuracy=(0.9, 0.6, 0.6))
    taught = data.signals.with_annotator("classifier", data.signals.label_probs[:, 1])
    pool = Pool(data.signals, Targets.of([], []))
    ladder = Ladder(("logpool",), pool, np.zeros(600, dtype=np.int64), 0, lambda _out: taught)
    fitted = ladder.fit("logpool", frozenset())
    assert isinstance(fitted, LogPool)
    assert fitted.shares_.tolist() == [1.0, *shares_of(data.signals)]
