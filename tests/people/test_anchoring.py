"""People who follow what they see are found, people who do not are not, and the weights undo what following does."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit

from mollm import metrics
from mollm.errors import ConfigError, InputError
from mollm.metrics import beta, newcombe, wilson
from mollm.mixture import calibration
from mollm.mixture.logpool import LogPool
from mollm.people import anchoring
from mollm.people.anchoring import MIN_LABELS, Sightings
from mollm.people.provenance import DEFAULT_WEIGHTS, weights
from mollm.records import Pool, Provenance, Targets
from tests.synthetic import synthetic


def crowd(pull: float, seed: int, *, size: int = 300, share: float = 0.2) -> tuple[Sightings, float]:
    """Labels in batches of 50, and the true difference of the agreement rates."""
    rng = np.random.default_rng(seed)
    confidence = np.clip(rng.beta(4, 2, size) * 0.75 + 0.25, 0.2, 0.99)
    q = expit(logit(confidence))
    shown = rng.random(size) >= share
    agree = (rng.random(size) < q) | (shown & (rng.random(size) < pull))
    return Sightings(agree, shown, confidence, np.arange(size) // 50), pull * float((1 - q).mean())


def test_a_crowd_that_follows_is_found_and_one_that_judges_is_not() -> None:
    lows = {
        pull: [
            found.low
            for seed in range(40)
            if (found := anchoring.effect(crowd(pull, seed, size=600)[0]).difference) is not None
        ]
        for pull in (0.0, 0.7)
    }
    assert len(lows[0.0]) == len(lows[0.7]) == 40
    assert np.mean(np.array(lows[0.7]) > 0) >= 0.95
    assert np.mean(np.array(lows[0.0]) > 0) <= 0.05


@pytest.mark.parametrize("pull", [0.0, 0.4])
def test_the_interval_covers_the_true_difference(pull: float) -> None:
    covered = []
    for seed in range(200):
        seen, true = crowd(pull, seed)
        found = anchoring.effect(seen).difference
        if found is not None:
            covered.append(found.low <= true <= found.high)
    assert len(covered) > 150
    assert np.mean(covered) >= 0.92


def test_only_labels_that_have_a_counterpart_in_their_batch_are_compared() -> None:
    seen, _ = crowd(0.5, 0, size=600)
    before = anchoring.effect(seen)
    old = Sightings(np.zeros(500, dtype=bool), np.ones(500, dtype=bool), np.full(500, 0.9), np.full(500, 99))
    parts = [np.concatenate([getattr(seen, name), getattr(old, name)]) for name in Sightings.__dataclass_fields__]
    assert anchoring.effect(Sightings(*parts)) == before


def test_too_few_blind_labels_are_admitted_and_teach_nothing() -> None:
    seen, _ = crowd(0.7, 0)
    few = seen.take(seen.shown | (np.cumsum(~seen.shown) < MIN_LABELS))
    found = anchoring.effect(few)
    assert found.difference is None
    assert f"{found.blind} blind" in found.line
    assert anchoring.worth(few) is None
    none = seen.take(seen.shown)
    assert "no blind labels" in anchoring.effect(none).line
    assert anchoring.effect(none.take(np.zeros(len(none.agree), dtype=bool))).blind == 0


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.floats(0, 1), st.integers(1, 400))
def test_any_crowd_gives_finite_figures_in_their_range(seed: int, pull: float, share: float, size: int) -> None:
    seen, _ = crowd(pull, seed, size=size, share=share)
    found = anchoring.effect(seen)
    if found.difference is not None:
        assert -1 <= found.difference.low <= found.difference.value <= found.difference.high <= 1
    learned = anchoring.worth(seen)
    assert (learned is None) == (found.difference is None)
    if learned is not None:
        worth = learned.accepted(np.linspace(0, 1, 11))
        assert np.all((worth > 0) & (worth <= 1))
        assert 0 <= learned.pull.low <= learned.pull.value <= learned.pull.high <= 1


def test_the_stronger_the_pull_the_less_an_accepted_label_weighs() -> None:
    found = []
    for pull in (0.0, 0.4, 0.8):
        learned = anchoring.worth(crowd(pull, 3, size=2000)[0])
        assert learned is not None
        found.append(learned.accepted(np.array([0.5, 0.8])))
    assert found[0][1] > 0.85  # as good as from scratch
    assert np.all(found[0] > found[1])
    assert np.all(found[1] > found[2])
    assert np.all([weight[0] < weight[1] for weight in found])  # accepting a doubtful label says less


def test_learned_weights_calibrate_the_mixture_of_a_crowd_that_follows() -> None:
    """Truth is what people think by themselves; half of those who see a label follow it."""
    ece: dict[str, list[float]] = {"plain": [], "guessed": [], "learned": []}
    N, H = 1200, 400
    for seed in range(8):
        data = synthetic(N=N, accuracy=(0.6, 0.55, 0.5), correlation=0.7, seed=seed)
        rng = np.random.default_rng([seed, 9])
        said = LogPool().fit(Pool(data.signals, Targets.of([], [])), rng=rng).predict_proba(data.signals)
        asked = rng.permutation(N)[:H]
        top, truth = said[asked].argmax(axis=1), data.gold[asked]
        shown = rng.random(H) >= 0.25
        label = np.where(shown & (rng.random(H) < 0.5), top, truth)
        agree = label == top
        learned = anchoring.worth(Sightings(agree, shown, said[asked].max(axis=1), np.arange(H) // 50))
        assert learned is not None
        accepted, rest = shown & agree, np.setdiff1d(np.arange(N), asked)
        for name, weight in (
            ("plain", np.ones(H)),
            ("guessed", np.where(accepted, 0.8, 1.0)),
            ("learned", np.where(accepted, learned.accepted(said[asked].max(axis=1)), 1.0)),
        ):
            temperature = calibration.temperature(said[asked], Targets(asked, label, weight))
            fitted = calibration.at_temperature(said, temperature)
            ece[name].append(metrics.ece(fitted[rest], data.gold[rest]))
    means = {name: float(np.mean(values)) for name, values in ece.items()}
    assert means["learned"] < means["guessed"] < means["plain"], means
    assert means["learned"] < 0.8 * means["plain"], means


def test_a_project_may_set_weights_of_its_own() -> None:
    assert weights() == DEFAULT_WEIGHTS
    assert weights({"accepted": 0.5}) == {**DEFAULT_WEIGHTS, Provenance.ACCEPTED: 0.5}
    for wrong in ({"copied": 0.5}, {"accepted": 0}, {"accepted": 2}, {"accepted": "much"}, {"accepted": True}):
        with pytest.raises(ConfigError):
            weights(wrong)


def test_sightings_that_do_not_fit_are_refused() -> None:
    yes = np.ones(2, dtype=bool)
    with pytest.raises(InputError):
        Sightings(yes, yes, np.ones(3), np.zeros(2, dtype=np.int64))
    with pytest.raises(InputError):
        Sightings(yes, yes, np.array([0.5, 1.5]), np.zeros(2, dtype=np.int64))


def test_the_intervals_are_those_of_the_papers() -> None:
    assert (wilson(81 / 263, 263).low, wilson(81 / 263, 263).high) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    found = newcombe(wilson(56 / 70, 70), wilson(48 / 80, 80))  # Newcombe 1998, table II, (a), method 10
    assert (found.low, found.high) == pytest.approx((0.0524, 0.3339), abs=1e-4)
    assert beta(9, 1).value == pytest.approx(0.9)


def test_a_hundred_thousand_labels_take_no_more_memory_than_a_hundred() -> None:
    learned = anchoring.worth(crowd(0.4, 0, size=1000)[0])
    assert learned is not None
    many = np.random.default_rng(0).random(100_000)
    tracemalloc.start()
    weights = learned.accepted(many)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 100e6
    assert np.allclose(weights[:50], learned.accepted(many[:50]))
