"""What people and LLMs really send: nothing, one label, one class, contradictions, silent and lying annotators."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mollm import recording
from mollm.errors import InputError
from mollm.mixture import Mixture, aggregators
from mollm.mixture.auto import Auto
from mollm.mixture.logpool import LogPool
from mollm.mixture.stacked import Stacked
from mollm.records import FloatArray, IntArray, Pool, Signals, Targets
from tests.synthetic import Synthetic, synthetic

pytestmark = pytest.mark.slow

LEARNED = [Auto, LogPool, Stacked]
RECORDINGS = Path(os.environ.get("MOLLM_RECORDINGS", Path(__file__).parents[2] / "../shared/recordings"))
FIVE = (0.75, 0.72, 0.7, 0.68, 0.65)


def predict(kind: type[Mixture], data: Synthetic, targets: Targets) -> FloatArray:
    fitted = kind().fit(Pool(data.signals, targets, data.embeddings), rng=np.random.default_rng(0))
    return fitted.predict_proba(data.signals, data.embeddings)


@pytest.mark.parametrize("kind", aggregators().values(), ids=aggregators().keys())
def test_all_labels_of_one_class_leave_the_others_possible(kind: type[Mixture]) -> None:
    data = synthetic(N=200)
    ones = np.flatnonzero(data.gold == 1)[:20]
    rows = predict(kind, data, Targets.of(ones, data.gold[ones]))
    assert np.isfinite(rows).all()
    if kind in LEARNED:
        assert rows.mean(axis=0).min() > 0.02
    if kind is Auto:
        assert len(np.unique(rows.argmax(axis=1))) == 3


def test_a_class_that_no_human_has_shown_stays_possible() -> None:
    data = synthetic(N=600, priors=(0.5, 0.45, 0.05), accuracy=(0.9, 0.9, 0.85))
    seen = np.flatnonzero(data.gold < 2)[:50]
    for kind in LEARNED:
        rows = predict(kind, data, Targets.of(seen, data.gold[seen]))
        unseen = rows[data.gold == 2]
        assert (unseen.argmax(axis=1) == 2).any()
        assert unseen[:, 2].mean() > 3 * rows[data.gold < 2, 2].mean()


@pytest.mark.parametrize("kind", LEARNED)
def test_contradicting_labels_for_one_text_meet_in_the_middle(kind: type[Mixture]) -> None:
    data = synthetic(N=200)
    base = data.targets(30)
    n = int(base.index[0])
    twice = Targets.of([*base.index, n, n], [*base.label, 0, 1])
    rows = predict(kind, data, twice)
    assert np.isfinite(rows).all()
    assert (rows.argmax(axis=1) == data.gold).mean() > 0.7


def with_annotator(data: Synthetic, said: IntArray) -> Synthetic:
    """One annotator more that is quite sure of what it says: class `said` (N,), or -1 to abstain."""
    C = data.signals.C
    probs = np.where(said[:, None] < 0, 0.0, 0.01 + (1 - 0.01 * C) * np.eye(C)[said])
    return replace(data, signals=data.signals.with_annotator("zealot", probs))


@pytest.mark.parametrize("said", [-1, 2], ids=["abstains", "always says the same"])
@pytest.mark.parametrize("kind", LEARNED)
def test_an_annotator_that_tells_nothing_costs_nothing(kind: type[Mixture], said: int) -> None:
    data = synthetic(N=500)
    more = with_annotator(data, np.full(500, said))
    for human in (0, 50):
        alone = predict(kind, data, data.targets(human)).argmax(axis=1) == data.gold
        both = predict(kind, more, more.targets(human)).argmax(axis=1) == data.gold
        assert both.mean() >= alone.mean() - 0.01


@pytest.mark.parametrize("how", ["at random", "by rule"])
def test_an_adversarial_annotator_costs_at_most_a_point_against_the_pool_of_the_others(how: str) -> None:
    gains = []
    for seed in range(3):
        data = synthetic(N=600, accuracy=FIVE, priors=(0.4, 0.3, 0.2, 0.1), seed=seed)
        step = np.random.default_rng(seed).integers(1, 4, 600) if how == "at random" else 1
        lied = with_annotator(data, (data.gold + step) % 4)
        pool = predict(LogPool, data, data.targets(50)).argmax(axis=1) == data.gold
        auto = predict(Auto, lied, lied.targets(50)).argmax(axis=1) == data.gold
        gains.append(auto.mean() - pool.mean())
    assert np.mean(gains) >= -0.01
    assert min(gains) >= -0.025


def recorded(name: str, seed: int) -> Synthetic:
    """A thousand items of a recorded panel: LLMs as they really err together, and are sure of it."""
    if not (RECORDINGS / name).is_dir():
        pytest.skip(f"the recording {name} is not at {RECORDINGS}: set MOLLM_RECORDINGS")
    whole = recording.load(RECORDINGS / name)
    some = np.random.default_rng(seed).permutation(whole.signals.N)[:1000]
    return Synthetic(whole.signals.take(some), whole.gold[some], None)


LIES = {
    "wrong at random": lambda gold, C, rng: (gold + rng.integers(1, C, len(gold))) % C,
    "wrong by rule": lambda gold, C, rng: (gold + 1) % C,
    "always the same": lambda gold, C, rng: np.full(len(gold), C - 1),
    "abstains": lambda gold, C, rng: np.full(len(gold), -1),
    "tosses a coin": lambda gold, C, rng: rng.integers(0, C, len(gold)),
}


@pytest.mark.parametrize("how", LIES)
@pytest.mark.parametrize("name", ["trec", "imdb"])
def test_beside_real_annotators_a_useless_or_lying_one_costs_at_most_a_point(name: str, how: str) -> None:
    """On average, against the same ladder without it and against the pool of the others. One seed of a thousand items
    has a standard error of half a point."""
    costs, gains = [], []
    for seed in range(3):
        data = recorded(name, seed)
        said = LIES[how](data.gold, data.signals.C, np.random.default_rng(seed))
        pool, alone, lied = (
            (predict(kind, of, data.targets(50, seed)).argmax(axis=1) == data.gold).mean()
            for kind, of in ((LogPool, data), (Auto, data), (Auto, with_annotator(data, said)))
        )
        costs.append(alone - lied)
        gains.append(lied - pool)
    assert np.mean(costs) <= 0.01
    assert np.mean(gains) >= -0.01
    assert max(costs) <= 0.025
    assert min(gains) >= -0.025


@pytest.mark.parametrize("bad", ["nan", "negative", "unnormalised"])
@pytest.mark.parametrize("where", ["label_probs", "votes"])
def test_bad_rows_are_an_error_that_names_item_and_annotator(bad: str, where: str) -> None:
    signals = synthetic(N=5).signals
    array = getattr(signals, where).copy()
    row = {"nan": [0.5, np.nan, 0.5], "negative": [0.5, -0.5, 1.0], "unnormalised": [3.0, 1.0, 2.0]}[bad]
    array[3, 1] = row
    with pytest.raises(InputError, match=r"'item-3'.*'llm-1'"):
        replace(signals, **{where: array})


def test_votes_that_sum_to_more_than_one_are_an_error() -> None:
    signals: Signals = synthetic(N=5).signals
    votes = signals.votes.copy()
    votes[2, 0] = [0.9, 0.9, 0.0]
    with pytest.raises(InputError, match=r"'item-2'.*'llm-0'"):
        replace(signals, votes=votes)
