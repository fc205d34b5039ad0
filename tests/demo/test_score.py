"""The demo's score on a made-up pool: counts, order and what is left out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from mollm.config import LoopConfig
from mollm.errors import InputError
from mollm.records import Item, Signals
from mollm_backend.demo.score import DemoPool, DemoScore, of_annotators, read_gold, simulate


@pytest.fixture
def pool() -> DemoPool:
    """60 items, three labels, two annotators: the first is always right, the second always says label 0."""
    rng = np.random.default_rng(7)
    gold = rng.integers(0, 3, 60)
    probs = np.full((60, 2, 3), 0.1)
    probs[np.arange(60), 0, gold] = 0.8
    probs[:, 1, 0] = 0.8
    items = tuple(Item(str(n), f"text {n}") for n in range(60))
    signals = Signals(tuple(item.id for item in items), ("right", "stuck"), ("a", "b", "c"), probs, probs)
    return DemoPool(items, signals, gold)


def test_each_annotator_is_scored_by_its_most_probable_label(pool: DemoPool) -> None:
    assert of_annotators(pool) == {"right": 1.0, "stuck": float((pool.gold == 0).mean())}


@pytest.mark.parametrize("draw", [False, True])
def test_scores_come_at_the_asked_counts_and_repeat(pool: DemoPool, draw: bool) -> None:
    config = LoopConfig(refit_every=10, batch_size=10, reserve=5, classifier="none")

    def run() -> list[DemoScore]:
        return list(simulate(pool, config, None, (0, 20, 30), 0, draw=draw, progress=lambda _line: None))

    scores = run()
    assert [score.labels for score in scores] == [0, 20, 30]
    assert scores[0].rest == scores[0].pool
    for score in scores:
        right = round(score.rest * (60 - score.labels))
        assert score.pool == pytest.approx((right + score.labels) / 60), "humans' labels count as right in `pool` only"
    assert run() == scores


def test_gold_is_read_from_its_own_file_and_its_absence_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="mollm up --demo"):
        read_gold(tmp_path)
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "gold.json").write_text(json.dumps({"gold": {"t": "x"}}))
    assert read_gold(tmp_path) == {"t": "x"}
