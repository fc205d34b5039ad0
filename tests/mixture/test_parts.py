"""The parts of the mixture on their own: evidence, the convex fit, the text's view, calibration, negatives, folds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import check_grad
from scipy.special import softmax as soft

from mollm import metrics
from mollm.folds import folds
from mollm.mixture import Mixture, aggregators, calibration, text_view
from mollm.mixture import conditional_logit as logit
from mollm.mixture.cold_start import Design, choose, steps
from mollm.mixture.dawid_skene import DawidSkene
from mollm.mixture.evidence import Centring, one_hot
from mollm.mixture.forest import Forest
from mollm.mixture.ladder import Ladder, cross_chosen
from mollm.mixture.logpool import LogPool, prior_weight
from mollm.mixture.molam import Boosting, Molam, boosting_for
from mollm.mixture.negative_labels import negative_labels, paper_negatives
from mollm.mixture.pool_forest import PoolForest, sample
from mollm.mixture.skills import shares
from mollm.mixture.stacked import Stacked
from mollm.records import IntArray, Pool, Targets
from tests.synthetic import synthetic


def test_the_ladder_and_the_baselines_are_found() -> None:
    assert {"auto", "logpool", "stacked", "molam", "dawid_skene", "majority", "pooled_votes"} <= set(aggregators())


def test_log_odds_are_centred_over_the_pool_and_silence_is_zero() -> None:
    signals = synthetic(N=400).signals
    probs = signals.label_probs.copy()
    probs[0, 0] = np.nan
    probs[1, 1] = 0.9  # over-full: says nothing
    F = Centring.of(replace(signals, label_probs=probs)).log_odds(replace(signals, label_probs=probs))
    np.testing.assert_allclose(F.mean(axis=0), 0.0, atol=1e-10)
    assert not F[0, 0].any()
    assert not F[1, 1].any()


def test_the_pool_takes_out_what_an_annotator_likes_to_say() -> None:
    data = synthetic(N=2000, priors=(1 / 3, 1 / 3, 1 / 3))
    biased = data.signals.label_probs * np.array([20.0, 1.0, 1.0])
    signals = replace(data.signals, label_probs=biased / biased.sum(axis=2, keepdims=True))
    rng, nothing = np.random.default_rng(0), Targets.of([], [])
    pool = LogPool().fit(Pool(signals, nothing), rng=rng).predict_proba(signals).argmax(axis=1)
    mean = signals.label_probs.mean(axis=1).argmax(axis=1)
    assert (pool == data.gold).mean() > (mean == data.gold).mean() + 0.05


@pytest.mark.parametrize("kind", [LogPool, Stacked])
def test_what_is_thought_of_the_classes_stands_until_labels_count_otherwise(kind: type[Mixture]) -> None:
    data, rng = synthetic(N=400, priors=(0.5, 0.5)), np.random.default_rng(0)
    first = []
    for human in (0, 300):
        pool = Pool(data.signals, data.targets(human), frequencies=(0.1, 0.9))
        fitted = kind().fit(pool, rng=rng)
        again = kind.from_state(fitted.state())
        np.testing.assert_allclose(again.predict_proba(data.signals), fitted.predict_proba(data.signals))
        first.append(float((fitted.predict_proba(data.signals).argmax(axis=1) == 0).mean()))
    even = kind().fit(Pool(data.signals), rng=rng).predict_proba(data.signals)
    assert first[0] < (even.argmax(axis=1) == 0).mean() - 0.1
    assert abs(first[1] - float((data.gold == 0).mean())) < 0.06


def test_without_labels_and_texts_the_stacked_mixture_is_the_pool_of_equals() -> None:
    """It starts there: to start at shares by agreement left less to accept on IMDB (300 labels, .864 and .881)."""
    data, nothing, rng = synthetic(N=200), Targets.of([], []), np.random.default_rng(0)
    equals, uneven = np.ones(data.signals.M), np.linspace(0.5, 1.5, data.signals.M)
    one, two = (
        one.fit(Pool(data.signals, nothing), rng=rng).predict_proba(data.signals)
        for one in (LogPool(shares=equals), Stacked(shares=uneven))
    )
    np.testing.assert_allclose(one, two, atol=1e-12)


def test_with_texts_the_stacked_mixture_begins_at_the_pools_shares_and_labels_move_it() -> None:
    data = synthetic(N=400, accuracy=(0.8, 0.6, 0.5), text=6)
    uneven, rng = np.array([1.5, 1.0, 0.5]), np.random.default_rng(0)
    pool = Pool(data.signals, Targets.of([], []), data.embeddings)
    distance = []
    for human in (0, 10, 200):
        fitted = Stacked(shares=uneven).fit(replace(pool, targets=data.targets(human)), rng=rng)
        distance.append(np.abs(fitted.logit_.weight[:6] / prior_weight(3) - np.tile(uneven, 2)).max())
    assert distance[0] < 1e-9 < distance[1] < 0.5 < distance[2]
    own = Stacked().fit(pool, rng=rng).logit_.weight[:6] / prior_weight(3)
    np.testing.assert_allclose(own, np.tile(shares(pool, Centring.of(data.signals)), 2))


def test_the_conditional_logit_is_at_its_optimum_however_many_columns() -> None:
    rng = np.random.default_rng(0)
    F, X = rng.normal(size=(12, 3, 4)), rng.normal(size=(12, 40))
    Y, ridge = one_hot(rng.integers(0, 4, 12), 4), np.full(40, 2.0)
    pen = logit.Penalties()
    found = logit.fit(F, X, ridge, Y, np.ones(12), np.full(3, 0.2), np.zeros(Y.shape[1]), pen)

    def loss(theta: np.ndarray) -> float:
        w, b, M = theta[:3], theta[3:7], theta[7:].reshape(40, 4)
        L = np.einsum("hsc,s->hc", F, w) + b + X @ M
        nll = (np.log(np.exp(L).sum(axis=1)) - (Y * L).sum(axis=1)).sum()
        level, spread = w.mean() - 0.2, w - w.mean()
        ridges = pen.level * 3 * level**2 + pen.spread * (spread**2).sum() + pen.bias * (b**2).sum() + 2 * (M**2).sum()
        return float(nll + 0.5 * ridges)

    theta = np.concatenate([found.weight, found.bias, found.matrix.ravel()])
    assert check_grad(loss, lambda _: np.zeros(len(theta)), theta) < 1e-2
    assert loss(theta) <= min(loss(theta + 0.05 * rng.normal(size=len(theta))) for _ in range(20))


def test_the_texts_view_of_one_item_left_out_is_the_refit_without_it() -> None:
    rng = np.random.default_rng(0)
    E, P = rng.normal(size=(40, 5)), rng.dirichlet(np.ones(3), 40)
    gram = text_view.Gram.of(E)
    view = text_view.fit(E, P, gram)
    placed = gram.space.place(E)
    others = placed[1:]
    ridge = np.linalg.solve(others.T @ others + text_view.RIDGE * np.eye(5), others.T @ (P[1:] - view.share))
    expected = view.log_odds(placed[:1] @ ridge)
    np.testing.assert_allclose(view.left_out(placed[:1], P[:1], gram), expected, atol=1e-9)


def test_an_item_without_text_says_nothing_through_it() -> None:
    data = synthetic(N=120, text=4)
    assert data.embeddings is not None
    holes = data.embeddings.copy()
    holes[:30] = np.nan
    fitted = Stacked().fit(Pool(data.signals, data.targets(40), holes), rng=np.random.default_rng(0))
    rows = fitted.predict_proba(data.signals, holes)
    np.testing.assert_allclose(rows[:30], fitted.predict_proba(data.signals.take(slice(0, 30))), atol=1e-9)


def test_texts_help_when_they_tell() -> None:
    data = synthetic(N=600, accuracy=(0.6, 0.55, 0.5), text=12, seed=3)
    rng, targets = np.random.default_rng(0), data.targets(60)
    rows = Stacked().fit(Pool(data.signals, targets, data.embeddings), rng=rng)
    plain = Stacked().fit(Pool(data.signals, targets), rng=rng).predict_proba(data.signals)
    told = rows.predict_proba(data.signals, data.embeddings)
    assert (told.argmax(axis=1) == data.gold).mean() > (plain.argmax(axis=1) == data.gold).mean() + 0.03


def test_a_forest_grows_of_labels_that_are_mostly_shown_once_and_says_nothing_aloud() -> None:
    rng, label = np.random.default_rng(0), np.concatenate([np.arange(30), np.arange(10)])
    grown = Forest(rng.normal(size=(40, 8)), label, np.ones(40), 0, 33)
    unseen = np.full((5, 33), 0.01)
    votes = grown.proba(rng.normal(size=(5, 8)), unseen)
    np.testing.assert_allclose(votes.sum(axis=1), 1)
    np.testing.assert_array_equal(votes[:, 30:], unseen[:, 30:])


def test_the_pools_forest_says_of_an_item_what_is_believed_of_its_like() -> None:
    rng = np.random.default_rng(0)
    cluster = rng.integers(0, 2, 600)
    X = rng.normal(0, 0.1, (600, 5)) + 3 * cluster[:, None]
    right = rng.random(600) < 0.8
    Q = one_hot(np.where(right, cluster, 1 - cluster), 2)
    rows = PoolForest(X, Q, 0).proba(X)
    assert (rows.argmax(axis=1) == cluster).all()
    assert abs(rows[cluster == 1, 1].mean() - right[cluster == 1].mean()) < 0.05


def test_the_pools_sample_holds_the_asked_and_does_not_depend_on_the_order_of_the_items() -> None:
    names = tuple(f"item-{n}" for n in range(500))
    order = np.random.default_rng(1).permutation(500)
    asked = np.array([3, 499])
    drawn = sample(names, asked, 50)
    moved = sample(tuple(names[n] for n in order), np.argsort(order)[asked], 50)
    assert set(asked) <= set(drawn)
    assert 50 <= len(drawn) <= 52
    assert [names[n] for n in drawn] == [names[order[n]] for n in moved]


def test_only_a_gain_that_most_labels_share_is_clear() -> None:
    targets = Targets.of(np.arange(20), np.zeros(20, dtype=np.int64))
    sure, unsure = np.tile([0.9, 0.1], (20, 1)), np.tile([0.6, 0.4], (20, 1))
    one_saved = unsure.copy()
    one_saved[0] = [0.99, 0.01]
    assert metrics.clearly_lower(sure, unsure, targets, 2.0)
    assert not metrics.clearly_lower(one_saved, unsure, targets, 2.0)
    assert not metrics.clearly_lower(unsure, sure, targets, 2.0)
    assert not metrics.clearly_lower(sure, sure, targets, 2.0)


def test_dawid_skene_finds_the_confusion_matrices_it_was_made_from() -> None:
    data = synthetic(N=4000, accuracy=(0.9, 0.8, 0.7), correlation=0.0)
    fitted = DawidSkene().fit(Pool(data.signals, data.targets(100)), rng=np.random.default_rng(0))
    right = np.einsum("mkk->mk", fitted.confusion_).mean(axis=1)
    assert right[0] > right[1] > right[2]
    posterior = fitted.predict_proba(data.signals).argmax(axis=1)
    assert (posterior == data.gold).mean() > 0.88


def test_the_papers_mixture_has_the_papers_settings() -> None:
    assert boosting_for("AG News") == Boosting(0.07, 5, 300)
    assert boosting_for("pubmed-rct") == Boosting(0.01, 3, 500)
    assert boosting_for("something else") == boosting_for("trec") == Boosting(0.05, 6, 300)
    data = synthetic(N=300, accuracy=(0.95, 0.95, 0.95))
    fitted = Molam().fit(Pool(data.signals, data.targets(60)), rng=np.random.default_rng(0))
    assert fitted.added_ > 0


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.5, 3.0))
def test_a_temperature_never_changes_the_top_class_and_is_found_again(seed: int, true: float) -> None:
    rng = np.random.default_rng(seed)
    probs = soft(rng.normal(0, 2, (3000, 4)), axis=-1)
    label: IntArray = np.array([rng.choice(4, p=row) for row in probs], dtype=np.int64)
    shown = calibration.at_temperature(probs, 1 / true)
    assert (shown.argmax(axis=1) == probs.argmax(axis=1)).all()
    assert calibration.temperature(shown, Targets.of(np.arange(3000), label)) == pytest.approx(true, rel=0.2)


@given(st.integers(0, 1000), st.floats(0.55, 0.85))
def test_a_temperature_makes_answers_as_sure_as_asked_for(seed: int, sure: float) -> None:
    probs = np.random.default_rng(seed).dirichlet(np.full(3, 0.5), size=200)
    told = calibration.at_temperature(probs, calibration.as_sure(probs, sure))
    assert told.max(axis=1).mean() == pytest.approx(sure, abs=1e-6)
    np.testing.assert_array_equal(told.argmax(axis=1), probs.argmax(axis=1))


@pytest.mark.parametrize(("sure", "temperature"), [(1.0, np.exp(-1.5)), (0.0, np.exp(1.5))])
def test_a_sureness_out_of_reach_is_neared_as_far_as_a_temperature_may_go(sure: float, temperature: float) -> None:
    probs = np.random.default_rng(0).dirichlet(np.ones(3), size=50)
    assert calibration.as_sure(probs, sure) == pytest.approx(temperature)


def test_ece_of_a_case_by_hand() -> None:
    probs = np.array([[0.6, 0.4], [0.6, 0.4], [0.1, 0.9]])
    assert metrics.ece(probs, np.array([0, 1, 1])) == pytest.approx((2 * abs(0.5 - 0.6) + abs(1 - 0.9)) / 3)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000), st.integers(2, 60))
def test_folds_keep_texts_together_and_spread_labels(seed: int, human: int) -> None:
    data = synthetic(N=60, seed=seed % 5)
    groups = tuple(f"g{n // 3}" for n in range(60))
    targets = data.targets(human, seed)
    fold = folds([groups[n] for n in targets.index], 5, np.random.default_rng(seed), targets.label)
    for g in set(groups):
        assert len({int(f) for f, n in zip(fold, targets.index, strict=True) if groups[n] == g}) <= 1
    assert set(fold) <= set(range(5))


@pytest.mark.parametrize("rung", ["logpool", "stacked"])
def test_held_out_rows_never_see_their_own_label(rung: str) -> None:
    """Turning the labels of one fold changes none of its rows."""
    data = synthetic(N=100)
    targets, fold = data.targets(40), np.arange(100) % 5
    mine = fold[targets.index] == 2
    turned = Targets.of(targets.index, np.where(mine, (targets.label + 1) % 3, targets.label))
    one, other = (
        Ladder((rung,), Pool(data.signals, which), fold, 0).held_out(rung, frozenset()) for which in (targets, turned)
    )
    np.testing.assert_array_equal(one[mine], other[mine])
    assert not np.array_equal(one[~mine], other[~mine])


def test_a_fold_has_no_part_in_its_own_choice_and_temperature() -> None:
    rng = np.random.default_rng(0)
    fold = np.arange(60) % 4
    rows = {name: rng.dirichlet(np.ones(3), 60) for name in ("low", "high")}
    label = rng.integers(3, size=60)
    turned = np.where(fold == 2, (label + 1) % 3, label)
    one, other = (cross_chosen(rows, Targets.of(np.arange(60), which), fold) for which in (label, turned))
    np.testing.assert_array_equal(one[fold == 2], other[fold == 2])
    assert not np.array_equal(one, other)


def test_the_ladder_is_left_only_for_a_clearly_better_pool() -> None:
    targets, fold = Targets.of(np.arange(40), np.zeros(40, dtype=int) + np.arange(40) % 2), np.arange(40) % 4
    right = np.eye(2)[targets.label] * 0.8 + 0.1
    flat = np.full((40, 2), 0.5)
    np.testing.assert_allclose(cross_chosen({"low": right, "high": flat}, targets, fold).argmax(axis=1), targets.label)
    np.testing.assert_array_equal(cross_chosen({"low": flat, "high": flat[:, ::-1]}, targets, fold), flat)


@pytest.mark.parametrize("target", [0.95, 0.995])
def test_negatives_keep_their_target_precision(target: float) -> None:
    rng = np.random.default_rng(0)
    probs = soft(rng.normal(0, 3, (20_000, 5)), axis=-1)
    gold = np.array([rng.choice(5, p=row) for row in probs])
    asked = np.arange(2000)
    found = negative_labels(probs, probs, Targets.of(asked, gold[asked]), target=target)
    true = found.mask[np.arange(20_000), gold].sum()
    assert 1 - true / found.count >= target - 0.004
    assert found.count > 10_000
    assert found.precision is not None
    assert found.lower is not None
    assert found.lower < found.precision
    assert found.count == found.mask.sum()
    assert not found.mask[np.arange(20_000), probs.argmax(axis=1)].any()


@pytest.mark.parametrize("floor", [0.0, 0.012])
def test_two_classes_have_no_negatives_until_the_labels_show_how_wrong_the_surest_answers_are(floor: float) -> None:
    rng = np.random.default_rng(1)
    sure = soft(np.stack([rng.normal(0, 6, 20_000), np.zeros(20_000)], axis=1), axis=-1)
    gold = (rng.random(20_000) > np.where(rng.random(20_000) < floor, 1 - sure[:, 0], sure[:, 0])).astype(np.int64)

    def found(human: int) -> float | None:
        asked = np.arange(human)
        mask = negative_labels(sure, sure, Targets.of(asked, gold[asked])).mask
        return 1 - mask[np.arange(20_000), gold].sum() / mask.sum() if mask.any() else None

    assert found(50) is None
    assert found(0) is None
    many = found(2000)
    assert many is None or many >= 0.993
    assert (many is not None) == (floor == 0.0)


def test_negatives_need_mixture_and_panel_and_the_paper_rule_only_the_panel() -> None:
    probs = np.array([[0.9, 0.0999, 0.0001]] * 50)
    panel = np.array([[0.8, 0.0005, 0.1995]] * 50)
    nothing = Targets.of([], [])
    assert not negative_labels(probs, panel, nothing, target=0.98).mask.any()
    assert negative_labels(probs, probs, nothing, target=0.98).mask[:, 2].all()
    paper = paper_negatives(probs, panel, nothing)
    assert paper.mask[:, 1].all()
    assert (negative_labels(probs, panel, nothing, rule="paper").mask == paper.mask).all()
    assert paper.precision is None
    assert "no human label" in paper.explain()


@given(st.integers(0, 300))
def test_steps_of_the_cold_start_sum_to_what_was_asked(human: int) -> None:
    assert sum(steps(human, Design())) == human


def test_the_cold_start_asks_one_item_a_text_and_looks_at_no_other_label() -> None:
    data = synthetic(N=200)
    groups = tuple(f"g{n // 2}" for n in range(200))
    seen: list[int] = []

    def ask(index: IntArray) -> IntArray:
        seen.extend(index.tolist())
        return data.gold[index]

    asked = choose(Pool(data.signals, groups=groups), ask, 40, rng=np.random.default_rng(0))
    assert sorted(seen) == sorted(asked.tolist())
    later = [groups[n] for n in asked[20:]]
    assert len(set(later)) == len(later)
