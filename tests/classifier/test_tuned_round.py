"""A round with a tuned encoder: whole, repeatable, and its state predicts new items."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from mollm.classifier.encoder import Encoder
from mollm.classifier.layers import Activations, activations
from mollm.classifier.tuned import text_encoder
from mollm.classifier.windows import Unread
from mollm.config import LoopConfig
from mollm.errors import ConfigError, ModelFileError
from mollm.records import Item, Signals, Targets
from mollm.round import tuning
from mollm.round.chain import Chain
from mollm.round.run import RoundInput, RoundOutcome, predict, run_round

pytestmark = pytest.mark.slow

CONFIG = LoopConfig(batch_size=5, reserve=5, aggregator="logpool", classifier="top")
PHRASES = ("where is the city", "who is the man")


def world(N: int) -> tuple[list[Item], Signals, np.ndarray]:
    rng = np.random.default_rng(0)
    gold = rng.integers(2, size=N)
    said = np.where(rng.random((N, 2)) < 0.7, gold[:, None], 1 - gold[:, None])
    probs = 0.2 + 0.6 * np.eye(2)[said]
    ids = tuple(f"t{n}" for n in range(N))
    items = [Item(ids[n], f"{PHRASES[gold[n]]} {n}") for n in range(N)]
    return items, Signals(ids, ("x", "y"), ("place", "person"), probs, probs), gold


def test_a_tuned_round(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "ENOUGH", 20)
    items, signals, gold = world(60)
    targets = Targets.of(np.arange(24), gold[:24])

    def play() -> RoundOutcome:
        return run_round(
            RoundInput(items, signals, targets, 1), config=CONFIG, encoder=Encoder(tiny), rng=np.random.default_rng(0)
        )

    first, second = play(), play()
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    assert (first.probabilities.argmax(axis=1) == gold)[24:].mean() > 0.75
    assert {"mixture", "classifier", "offset", "reading", "tuned"} == set(first.state)
    new = [Item(f"n{n}", f"{PHRASES[n % 2]} 9") for n in range(6)]
    silent = np.full((6, 2, 2), np.nan)
    unseen = Signals(tuple(item.id for item in new), ("x", "y"), signals.labels, silent, silent)
    probs = predict(first.state, new, unseen, Encoder(tiny))
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    with pytest.raises(ModelFileError, match="missing"):
        predict(first.state, new, unseen, None)


def tried(tiny: Path, monkeypatch: pytest.MonkeyPatch, text_tells: bool, mode: str = "auto") -> RoundOutcome:
    """A round on silent LLMs, where all there is to learn is in the text, or in nothing."""
    monkeypatch.setattr(tuning, "ENOUGH", 20)
    monkeypatch.setattr(tuning, "WRONG", 0.0)
    items, signals, gold = world(80)
    half = np.full((80, 2, 2), 0.5)
    if not text_tells:
        gold = np.random.default_rng(1).integers(2, size=80)
    return run_round(
        RoundInput(items, replace(signals, label_probs=half, votes=half), Targets.of(np.arange(40), gold[:40]), 1),
        config=CONFIG.model_copy(update={"classifier": mode}),
        encoder=Encoder(tiny),
        rng=np.random.default_rng(0),
    )


def test_auto_keeps_what_cross_validation_says(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = tried(tiny, monkeypatch, text_tells=False)
    assert "tuned" not in noise.state
    assert any("stay as they are (cross-fitted log-loss" in note for note in noise.notes)
    forced = tried(tiny, monkeypatch, text_tells=True, mode="top")
    head = tried(tiny, monkeypatch, text_tells=True, mode="head")
    chosen = tried(tiny, monkeypatch, text_tells=True)
    better = forced.scores["log_loss"] < head.scores["log_loss"]
    assert ("tuned" in chosen.state) == better
    np.testing.assert_array_equal(chosen.probabilities, (forced if better else head).probabilities)
    assert not np.array_equal(forced.per_label_log_loss, head.per_label_log_loss)  # the gate sees the tuned model


def test_full_is_scored_by_the_head(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    full, head = (tried(tiny, monkeypatch, text_tells=True, mode=mode) for mode in ("full", "head"))
    assert full.state["tuned"].facts["tuned"] == 4
    assert any("4 tuned layers" in note and "scores are those of the head" in note for note in full.notes)
    np.testing.assert_array_equal(full.per_label_log_loss, head.per_label_log_loss)
    assert (full.unread_tuned, head.unread_tuned) == (Unread(80, 0, 0), None)


def test_auto_does_not_try_where_there_is_nothing_to_gain(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def notes() -> str:
        items, signals, gold = world(60)
        outcome = run_round(
            RoundInput(items, signals, Targets.of(np.arange(24), gold[:24]), 1),
            config=config,
            encoder=Encoder(tiny),
            rng=np.random.default_rng(0),
        )
        assert "tuned" not in outcome.state
        return " ".join(outcome.notes)

    config = CONFIG.model_copy(update={"classifier": "auto"})
    assert "from 100 human labels on" in notes()
    monkeypatch.setattr(tuning, "ENOUGH", 20)
    assert "are wrong still" in notes()
    monkeypatch.setattr(tuning, "WRONG", 0.0)
    monkeypatch.setattr(tuning, "MOST_WORK", 1.0)
    assert "too long" in notes()


def chained(encoder: Encoder, gold: np.ndarray, items: list[Item], signals: Signals) -> Chain:
    given = RoundInput(items, signals, Targets.of(np.arange(20), gold[:20]))
    return Chain.start(given, CONFIG, encoder, np.random.default_rng(0))


def crossed(chain: Chain, encoder: Encoder, items: list[Item]) -> tuple[tuning.CrossFitted, tuning.Sample, Activations]:
    texts = [item.text or "" for item in items]
    acts = activations(encoder, texts[:20], 3)
    sample = tuning.Sample.of(chain, encoder, texts, 3, np.full((60, 2), 0.5))
    found = tuning.cross_fitted(chain, encoder, acts, np.arange(20), 3, np.full((20, 2), 0.5), sample)
    return found, sample, acts


def test_no_row_is_scored_by_a_tuned_fit_that_saw_its_label(tiny: Path) -> None:
    """Turning one fold's labels changes nothing of what cross-fitting says of that fold."""
    items, signals, gold = world(60)
    encoder = Encoder(tiny)
    chain = chained(encoder, gold, items, signals)
    mine = chain.fold[:20] == 1
    turned = Targets.of(np.arange(20), np.where(mine, 1 - gold[:20], gold[:20]))
    other = replace(chain, pool=replace(chain.pool, targets=turned), _panels={}, _heads={}, _classifiers={})
    said = [crossed(one, encoder, items)[0].held_out for one in (chain, other)]
    np.testing.assert_array_equal(said[0][mine], said[1][mine])
    assert not np.array_equal(said[0][~mine], said[1][~mine])


def test_what_is_kept_is_the_mean_of_the_folds_weights(tiny: Path) -> None:
    items, signals, gold = world(60)
    encoder = Encoder(tiny)
    chain = chained(encoder, gold, items, signals)
    found, sample, acts = crossed(chain, encoder, items)
    folds = np.unique(chain.fold[:20]).tolist()
    tops = [tuning.fitted(chain, encoder, acts, np.arange(20), 3, frozenset({k})) for k in folds]
    for name, value in found.weights.items():
        np.testing.assert_allclose(value, np.mean([top.weights()[name] for top in tops], axis=0), atol=1e-6)
        assert value.dtype == tops[0].weights()[name].dtype
    np.testing.assert_array_equal(found.sample, [sample.said_by(top) for top in tops])
    assert found.sample.shape == (len(folds), 40, 2)  # of all that has no label
    kept = found.mean(chain, encoder, acts, np.arange(20), 3)
    assert kept is not None
    np.testing.assert_array_equal(kept.weights()["head.bias"], found.weights["head.bias"])


def test_weights_that_went_apart_have_no_mean(tiny: Path) -> None:
    items, signals, gold = world(60)
    encoder = Encoder(tiny)
    chain = chained(encoder, gold, items, signals)
    found, _, acts = crossed(chain, encoder, items)
    apart = dict(found.weights) | {"head.bias": np.array([40, -40], dtype=np.float32)}  # one label, whatever the text
    assert replace(found, weights=apart).mean(chain, encoder, acts, np.arange(20), 3) is None


def test_without_a_mean_one_fit_on_all_labels_stands(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning.CrossFitted, "mean", lambda *_: None)
    outcome = tried(tiny, monkeypatch, text_tells=True, mode="top")
    full = tried(tiny, monkeypatch, text_tells=True, mode="full").state["tuned"].arrays
    assert full.keys() == outcome.state["tuned"].arrays.keys()
    for name, value in outcome.state["tuned"].arrays.items():  # `full` tunes the tiny encoder's four layers, too
        np.testing.assert_array_equal(value, full[name])


def test_where_every_item_has_a_label_there_is_no_sample(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "ENOUGH", 20)
    items, signals, gold = world(24)
    outcome = run_round(
        RoundInput(items, signals, Targets.of(np.arange(24), gold), 1),
        config=CONFIG,
        encoder=Encoder(tiny),
        rng=np.random.default_rng(0),
    )
    assert "tuned" in outcome.state
    assert np.isfinite(outcome.probabilities).all()


def test_below_enough_labels_the_head_stands(tiny: Path) -> None:
    items, signals, gold = world(30)
    outcome = run_round(
        RoundInput(items, signals, Targets.of([0, 1], gold[:2]), 1),
        config=CONFIG,
        encoder=Encoder(tiny),
        rng=np.random.default_rng(0),
    )
    assert "tuned" not in outcome.state


def test_labels_of_items_without_text_do_not_count(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "ENOUGH", 20)
    items, signals, gold = world(60)
    silent = [Item(item.id, None if n < 30 else item.text) for n, item in enumerate(items)]
    outcome = run_round(
        RoundInput(silent, signals, Targets.of(np.arange(30), gold[:30]), 1),
        config=CONFIG,
        encoder=Encoder(tiny),
        rng=np.random.default_rng(0),
    )
    assert "tuned" not in outcome.state
    assert np.isfinite(outcome.probabilities).all()


def test_an_encoder_without_layers_is_refused() -> None:
    class Letters:
        def embed(self, texts: list[str]) -> np.ndarray:
            return np.ones((len(texts), 2))

    with pytest.raises(ConfigError, match="head"):
        text_encoder(Letters())
