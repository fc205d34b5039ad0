"""Before any label the pool weighs its annotators by their agreement, and is never clearly worse than equal weights."""

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
from mollm.records import FittedState, FloatArray, IntArray, Pool, Signals, Targets
from tests.synthetic import synthetic

RECORDINGS = Path(os.environ.get("MOLLM_RECORDINGS", str(Path(__file__).parents[3] / "shared" / "recordings")))


def shares_of(signals: Signals) -> FloatArray:
    return shares(signals, Centring.of(signals))


def right(signals: Signals, gold: IntArray, given: FloatArray | None = None) -> float:
    pool = LogPool(None, given).fit(Pool(signals, Targets.of([], [])), rng=np.random.default_rng(0))
    return float((pool.predict_proba(signals).argmax(axis=1) == gold).mean())


@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_member_that_is_far_better_is_not_outvoted(place: int) -> None:
    accuracy = [0.72, 0.72]
    accuracy.insert(place, 0.93)
    gains, behind = [], []
    for seed in range(4):
        data = synthetic(N=1000, accuracy=accuracy, priors=(0.3, 0.25, 0.25, 0.2), seed=seed)
        assert shares_of(data.signals).argmax() == place
        best = float((data.signals.label_probs[:, place].argmax(axis=1) == data.gold).mean())
        pooled = right(data.signals, data.gold)
        gains.append(pooled - right(data.signals, data.gold, np.ones(3)))
        behind.append(best - pooled)
    assert np.mean(gains) > 0.01
    assert np.mean(behind) < 0.03


def test_equals_weigh_alike_and_two_cannot_be_told_apart() -> None:
    data = synthetic(N=4000, accuracy=(0.8, 0.8, 0.8, 0.8))
    np.testing.assert_allclose(shares_of(data.signals), 1.0, atol=0.15)
    assert shares_of(data.signals).mean() == pytest.approx(1)
    two = synthetic(N=400, accuracy=(0.9, 0.6))
    assert shares_of(two.signals).tolist() == [1, 1]


def test_few_items_tell_little() -> None:
    data = synthetic(N=2000, accuracy=(0.9, 0.6, 0.6))
    few, many = (float(np.ptp(shares_of(data.signals.take(np.arange(n))))) for n in (20, 2000))
    assert few < 0.4 * many


def test_who_says_nothing_changes_nothing_for_the_others() -> None:
    data = synthetic(N=500, accuracy=(0.9, 0.7, 0.7))
    silent = data.signals.with_annotator("zz", np.zeros((500, 3)))
    np.testing.assert_allclose(shares_of(silent)[:3], shares_of(data.signals))
    assert right(silent, data.gold) == right(data.signals, data.gold)


def test_who_contradicts_all_the_others_has_the_least_share() -> None:
    data = synthetic(N=800, accuracy=(0.8, 0.8, 0.8))
    lie = 0.01 + 0.97 * np.eye(3)[(data.gold + 1) % 3]
    found = shares_of(data.signals.with_annotator("zz", lie))
    assert found.argmin() == 3
    assert found[3] < 0.7


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
    assert min(gains.values()) > -0.01
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
