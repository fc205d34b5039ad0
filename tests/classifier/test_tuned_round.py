"""A round with a tuned encoder: whole, repeatable, and its state predicts new items."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from mollm import tuning
from mollm.classifier.encoder import Encoder
from mollm.config import LoopConfig
from mollm.errors import ConfigError, ModelFileError
from mollm.loop import predict, run_round
from mollm.records import Item, Signals, Targets

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

    def play() -> object:
        return run_round(items, signals, targets, config=CONFIG, encoder=Encoder(tiny), round_index=1,
                         rng=np.random.default_rng(0))  # fmt: skip

    first, second = play(), play()
    np.testing.assert_array_equal(first.probabilities, second.probabilities)
    assert (first.probabilities.argmax(axis=1) == gold)[24:].mean() > 0.75
    assert {"mixture", "temperature", "classifier", "offset", "tuned"} == set(first.state)
    new = [Item(f"n{n}", f"{PHRASES[n % 2]} 9") for n in range(6)]
    silent = np.full((6, 2, 2), np.nan)
    unseen = Signals(tuple(item.id for item in new), ("x", "y"), signals.labels, silent, silent)
    probs = predict(first.state, new, unseen, Encoder(tiny))
    np.testing.assert_allclose(probs.sum(axis=1), 1)
    with pytest.raises(ModelFileError, match="missing"):
        predict(first.state, new, unseen, None)


def test_below_enough_labels_the_head_stands(tiny: Path) -> None:
    items, signals, gold = world(30)
    outcome = run_round(items, signals, Targets.of([0, 1], gold[:2]), config=CONFIG, encoder=Encoder(tiny),
                        round_index=1, rng=np.random.default_rng(0))  # fmt: skip
    assert "tuned" not in outcome.state


def test_an_encoder_without_layers_is_refused() -> None:
    class Letters:
        def embed(self, texts: list[str]) -> np.ndarray:
            return np.ones((len(texts), 2))

    with pytest.raises(ConfigError, match="head"):
        tuning.text_encoder(Letters())
