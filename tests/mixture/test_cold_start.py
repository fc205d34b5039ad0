"""The cold start in the service: the batch begins with the design's items, refits fall on the design's steps."""

from __future__ import annotations

import numpy as np
import pytest

from mollm.config import COLD_FIRST, COLD_STEP, COLD_UNTIL, LoopConfig, refit_after
from mollm.mixture.cold_start import ahead, choose, steps
from mollm.mixture.stacked import Stacked
from mollm.records import IntArray, Item, Pool, Targets
from mollm.round.run import RoundInput, run_round
from mollm.strategies import Picks
from tests.synthetic import synthetic


def test_refits_fall_due_where_the_design_has_its_steps() -> None:
    trained, at = 0, []
    for human in range(1, 151):
        if human - trained >= refit_after(human, 50):
            trained = human
            at.append(human)
    assert at == [*np.cumsum(list(steps(COLD_UNTIL))).tolist(), 100, 150]
    assert [refit_after(human, 5) for human in (0, 30, 60)] == [5, 5, 5]


def test_the_services_half_asks_for_what_the_whole_design_asks_for() -> None:
    data = synthetic(N=200)
    asked = choose(Pool(data.signals), lambda index: data.gold[index], 40, rng=np.random.default_rng(0))
    rng = np.random.default_rng(0)
    rng.permutation(200)
    for human in (20, 30):
        targets = Targets.of(asked[:human], data.gold[asked[:human]])
        pool = Pool(data.signals, targets)
        probs = Stacked().fit(pool, rng=rng).predict_proba(data.signals)
        still_open = ~np.isin(np.arange(200), asked[:human])
        new = ahead(pool, probs, still_open, rng=rng)
        np.testing.assert_array_equal(new, asked[human : human + 10])


@pytest.mark.parametrize(("human", "count"), [(0, 20), (13, 7), (20, 10), (45, 5), (50, 0), (80, 0)])
def test_only_open_items_are_asked_about(human: int, count: int) -> None:
    data, rng = synthetic(N=240), np.random.default_rng(0)
    open_items = np.arange(240) >= 100
    probs = np.full((240, 3), 1 / 3)
    pool = Pool(data.signals, Targets.of(np.arange(human), data.gold[:human]))
    found = ahead(pool, probs, open_items, rng=rng)
    assert len(set(found.tolist())) == count
    assert open_items[found].all()
    assert len(ahead(pool, probs, np.zeros(240, dtype=np.bool_), rng=rng)) == 0


def test_items_that_all_look_alike_are_asked_all_the_same() -> None:
    data = synthetic(N=60)
    same = data.signals.take(np.zeros(60, dtype=np.int64))
    pool = Pool(same, Targets.of(np.arange(20), np.zeros(20, dtype=int)), groups=tuple(map(str, range(60))))
    open_items = np.arange(60) >= 20
    found = ahead(pool, np.full((60, 3), 1 / 3), open_items, rng=np.random.default_rng(0))
    assert len(set(found.tolist())) == COLD_STEP


def test_the_front_of_a_batch_leaves_it_as_long_and_doubles_nothing() -> None:
    picks = Picks(np.array([5, 3, 8]), np.array([0.9, 0.5, 0.1])).after(np.array([3, 7]))
    assert picks.index.tolist() == [3, 7, 5]
    assert picks.gain.tolist() == [0.9, 0.9, 0.9]


def fronts(human: int, refit_every: int) -> tuple[IntArray, IntArray]:
    """The batches of two rounds with other seeds: what is drawn at random differs between them."""
    data = synthetic(N=120, accuracy=(0.7, 0.65))
    items = tuple(Item(name) for name in data.signals.items)
    config = LoopConfig(batch_size=50, reserve=20, refit_every=refit_every, classifier="none")
    place = {name: n for n, name in enumerate(data.signals.items)}
    one, two = (
        run_round(
            RoundInput(items, data.signals, data.targets(human)), config=config, encoder=None,
            rng=np.random.default_rng(seed),
        ).entries
        for seed in (1, 2)
    )  # fmt: skip
    assert len(one) == 70
    return tuple(np.array([place[entry.item] for entry in batch]) for batch in (one, two))  # type: ignore[return-value]


def test_the_loops_first_batch_begins_at_random_unless_it_is_refitted_all_the_time() -> None:
    one, two = fronts(0, 50)
    assert len(set(one[:COLD_FIRST]) & set(two[:COLD_FIRST])) < 15
    one, two = fronts(0, 10)
    assert len(set(one[:COLD_FIRST]) & set(two[:COLD_FIRST])) > 15
