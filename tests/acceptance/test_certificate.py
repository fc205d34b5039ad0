"""The certificate keeps its promise wherever the errors lie, and its tails are what they say."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import hypergeom

from mollm.acceptance.audit import Design, Kind
from mollm.acceptance.certificate import SPENT, certify, fixed_number, level, share_of
from mollm.acceptance.outlook import outlook
from mollm.acceptance.tails import simple_tail, spread_tail
from mollm.errors import InputError
from mollm.records import BoolArray, FloatArray

ALPHA, AUDITS = 0.05, 1000
NOISE = 2.6 * (ALPHA * (1 - ALPHA) / AUDITS) ** 0.5  # 99.5 % of a fair simulation lies above 1 - ALPHA - NOISE
SIMPLE = Design("simple", 150, 1200, 300, 1500)
SPREAD = Design("spread", 120, 3000, 900, 3300)


def errors_at(where: str, design: Design, target: float) -> BoolArray:
    """Errors of the open tasks: everywhere alike, growing along the order, or just above the target at one end."""
    K, rng = design.tasks, np.random.default_rng(7)
    if where == "uniform":
        return rng.random(K) < (1 - target) * 1.05
    if where == "growing":
        return rng.random(K) < 2.4 * (1 - target) * np.linspace(0, 1, K)
    wrong = np.zeros(K, dtype=np.bool_)
    # Adversarial: the last place where the test may go wrong is full of errors, one more than it may have.
    spot = design.start if where == "at the start" else design.region
    many = int((1 - target) * spot) + 1
    wrong[spot - many : spot] = True
    if where == "at the start":
        wrong[spot:] = rng.random(K - spot) < 1 - target
    return wrong


@pytest.mark.parametrize("target", [0.8, 0.9, 0.95])
@pytest.mark.parametrize("where", ["uniform", "growing", "at the start", "at the end"])
@pytest.mark.parametrize("design", [SIMPLE, SPREAD], ids=lambda design: design.kind)
def test_the_promise_is_kept(design: Design, where: str, target: float) -> None:
    wrong = errors_at(where, design, target)
    kept, allowed = 0, share_of(target)
    for seed in range(AUDITS):
        places = design.draw(np.random.default_rng([seed, 1]))
        found = certify(design, places, wrong[places], allowed, ALPHA)
        left = wrong[: found.tasks].sum() - wrong[places[places < found.tasks]].sum()
        kept += left <= (1 - target) * found.accepted + 1e-9
    assert kept / AUDITS >= 1 - ALPHA - NOISE


def test_it_is_of_use_where_errors_are_few() -> None:
    for design in (SIMPLE, SPREAD):
        wrong = errors_at("growing", design, 0.98)
        places = design.draw(np.random.default_rng(3))
        assert certify(design, places, wrong[places], share_of(0.9), ALPHA).tasks == design.region


@given(st.integers(0, 10_000), st.sampled_from([0.7, 0.9, 0.95]), st.floats(0, 0.3), st.booleans())
@settings(max_examples=60, deadline=None)
def test_more_errors_never_certify_more(seed: int, target: float, share: float, spread: bool) -> None:
    rng = np.random.default_rng(seed)
    design = SPREAD if spread else SIMPLE
    places = design.draw(rng)
    fewer = rng.random(len(places)) < share
    more = fewer | (rng.random(len(places)) < 0.05)
    for allowed in (share_of(target), fixed_number(30)):
        first, second = (certify(design, places, wrong, allowed, ALPHA).tasks for wrong in (fewer, more))
        assert second <= first


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_the_simple_tail_is_the_hypergeometric_one(data: st.DataObject) -> None:
    K = data.draw(st.integers(1, 400))
    n = data.draw(st.integers(0, K))
    wrong = data.draw(st.integers(0, K))
    errors = data.draw(st.integers(0, n))
    ours = simple_tail(*(np.array([value]) for value in (errors, n, K, wrong)))[0]
    assert ours == pytest.approx(hypergeom.cdf(errors, K, wrong, n), abs=1e-9)


def below(p: FloatArray, errors: int) -> float:
    """P(X <= errors) of a sum of independent Bernoulli variables, exactly."""
    law = np.ones(1)
    for one in p:
        law = np.convolve(law, [1 - one, one])
    return float(law[: errors + 1].sum())


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(2, 30), st.floats(0.01, 0.99))
@settings(max_examples=200, deadline=None)
def test_the_spread_tail_bounds_the_tail_of_any_placement(seed: int, audits: int, cell: int, fill: float) -> None:
    rng = np.random.default_rng(seed)
    wrong = rng.permutation(audits * cell)[: max(1, int(fill * audits * cell))]
    p = np.bincount(wrong // cell, minlength=audits) / cell
    errors = np.arange(audits + 1)
    bound = spread_tail(errors, np.full_like(errors, audits), cell, np.full_like(errors, len(wrong)))
    exact = np.array([below(p, int(e)) for e in errors])
    assert np.all(bound >= exact - 1e-9)


def test_the_tails_are_tight_enough_to_be_of_use() -> None:
    zero, audits = np.zeros(1, dtype=np.int64), np.array([100])
    assert spread_tail(zero, audits, 50, np.array([250]))[0] == pytest.approx(0.95**100)
    assert simple_tail(zero, audits, np.array([5000]), np.array([250]))[0] < 0.95**100


def test_looks_spend_the_level_once() -> None:
    assert sum(level(0.95, look) for look in range(1, 60)) == pytest.approx(0.05)
    assert level(0.95, 1) == pytest.approx(0.05 * SPENT)


@pytest.mark.parametrize("kind", ["simple", "spread"])
def test_the_outlook_is_the_same_for_a_seed(kind: Kind) -> None:
    K = 1500 if kind == "simple" else 9000
    confidence = np.sort(np.random.default_rng(4).beta(8, 1, K))[::-1]
    first, second = (outlook(confidence, 120, share_of(0.9), ALPHA, rng=np.random.default_rng(11)) for _ in range(2))
    assert first == second
    assert first.design.kind == kind
    assert 0 <= first.low <= first.share <= first.high <= 1


def test_what_cannot_be_an_audit_is_refused() -> None:
    with pytest.raises(InputError, match="only as a whole"):
        certify(SPREAD, np.arange(5), np.zeros(5, dtype=np.bool_), share_of(0.9), ALPHA)
    with pytest.raises(InputError, match="not drawn at random"):
        certify(SIMPLE, np.array([1300]), np.zeros(1, dtype=np.bool_), share_of(0.9), ALPHA)
