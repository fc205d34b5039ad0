"""The contract of every query strategy in the folder; a new file is tested before its author writes a test."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mollm.errors import ConfigError, InputError
from mollm.lab.plain_strategies import PLAIN
from mollm.strategies import Candidates, strategies, strategy

ALL = sorted(strategies())


def pool(N: int = 60, C: int = 4, D: int = 6, labelled: int = 5, seed: int = 0, **more: object) -> Candidates:
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(C), N)
    x = rng.normal(0, 1, (N, D))
    panel = rng.dirichlet(np.ones(C), (N, 3))
    open_items = np.arange(labelled, N)
    given = {"classifier": rng.dirichlet(np.ones(C), N), "panel": panel, "embed": lambda: x, **more}
    return Candidates(probs, open_items, np.arange(labelled), **given)


def test_the_paper_s_strategies_are_there() -> None:
    wanted = {"random", "entropy", "margin", "coreset", "noise_stability", "bemps", "badge", "discrepancy"}
    assert wanted <= set(ALL)
    with pytest.raises(ConfigError, match="margin"):
        strategy("luck")


@pytest.mark.parametrize("name", ALL)
def test_picks_are_open_and_different_and_in_full_number(name: str) -> None:
    some = pool()
    picks = strategy(name)(some, 20, np.random.default_rng(1))
    assert len(picks.index) == len(picks.gain) == len(set(picks.index.tolist())) == 20
    assert np.isin(picks.index, some.open).all()
    assert np.isfinite(picks.gain).all()


@pytest.mark.parametrize("name", ALL)
def test_a_seed_decides(name: str) -> None:
    first = strategy(name)(pool(), 15, np.random.default_rng(3))
    second = strategy(name)(pool(), 15, np.random.default_rng(3))
    np.testing.assert_array_equal(first.index, second.index)
    np.testing.assert_array_equal(first.gain, second.gain)


@pytest.mark.parametrize("name", ALL)
def test_the_pool_is_not_changed(name: str) -> None:
    some = pool()
    before = (some.probs.copy(), some.embeddings().copy(), some.open.copy())
    strategy(name)(some, 15, np.random.default_rng(3))
    for was, now in zip(before, (some.probs, some.embeddings(), some.open), strict=True):
        np.testing.assert_array_equal(was, now)


@pytest.mark.parametrize("name", ALL)
@settings(deadline=None, max_examples=15)
@given(N=st.integers(0, 12), C=st.integers(1, 3), batch=st.integers(0, 20), labelled=st.integers(0, 12))
def test_pools_of_any_size(name: str, N: int, C: int, batch: int, labelled: int) -> None:
    labelled = min(labelled, N)
    some = pool(N, C, labelled=labelled)
    picks = strategy(name)(some, batch, np.random.default_rng(0))
    assert len(picks.index) == min(batch, N - labelled)
    assert len(set(picks.index.tolist())) == len(picks.index)
    assert np.isfinite(picks.gain).all()


@pytest.mark.parametrize("name", ALL)
def test_duplicates_and_certain_probabilities(name: str) -> None:
    probs = np.zeros((3000, 3))
    probs[:, 0] = 1
    probs[:10] = [0, 0.5, 0.5]
    some = Candidates(probs, np.arange(3000), np.empty(0, dtype=np.int64), embed=lambda: np.ones((3000, 4)))
    picks = strategy(name)(some, 30, np.random.default_rng(0))
    assert len(set(picks.index.tolist())) == 30
    assert np.isfinite(picks.gain).all()


@pytest.mark.parametrize("name", ["entropy", "margin", "discrepancy"])
def test_the_undecided_item_comes_first(name: str) -> None:
    probs = np.array([[0.98, 0.01, 0.01], [0.49, 0.5, 0.01], [0.9, 0.05, 0.05]])
    picks = strategy(name)(Candidates(probs, np.arange(3), np.empty(0, dtype=np.int64)), 3, np.random.default_rng(0))
    assert picks.index[0] == 1


def test_discrepancy_prefers_what_the_models_quarrel_about() -> None:
    probs = np.array([[0.6, 0.4], [0.6, 0.4]])
    panel = np.array([[[0.9, 0.1], [0.8, 0.2]], [[0.1, 0.9], [0.1, 0.9]]])
    some = Candidates(probs, np.arange(2), np.empty(0, dtype=np.int64), classifier=panel[:, 0], panel=panel)
    assert strategy("discrepancy")(some, 2, np.random.default_rng(0)).index.tolist() == [1, 0]


def test_coreset_takes_the_far_corner() -> None:
    x = np.array([[0.0, 0], [0.1, 0], [5, 0], [0, 3]])
    some = Candidates(np.full((4, 2), 0.5), np.arange(1, 4), np.array([0]), embed=lambda: x)
    picks = strategy("coreset")(some, 3, np.random.default_rng(0))
    assert picks.index.tolist() == [2, 3, 1]
    np.testing.assert_allclose(picks.gain, [5, 3, 0.1])


@pytest.mark.parametrize("name", sorted(PLAIN))
@pytest.mark.parametrize("seed", range(3))
def test_the_plain_procedure_picks_the_same(name: str, seed: int) -> None:
    fast = strategy(name)(pool(400, 5, 12, 20, seed), 15, np.random.default_rng(seed)).index
    plain = PLAIN[name](pool(400, 5, 12, 20, seed), 15, np.random.default_rng(seed))
    np.testing.assert_array_equal(fast, plain)


def test_embeddings_are_asked_for_only_when_needed() -> None:
    def refuse() -> np.ndarray:
        raise AssertionError("asked")

    for name in ("random", "entropy", "margin"):
        strategy(name)(pool(embed=refuse), 5, np.random.default_rng(0))


def test_a_pool_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(InputError, match="finite"):
        Candidates(np.array([[np.nan, 1.0]]), np.arange(1), np.empty(0, dtype=np.int64))
    with pytest.raises(InputError, match="open"):
        Candidates(np.ones((2, 1)), np.array([5]), np.empty(0, dtype=np.int64))
