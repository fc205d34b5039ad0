"""`replay worth`: the ways, who is scored on what, the prices, and the coverage of the paired intervals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mollm import recording
from mollm.errors import InputError
from mollm.lab import worth
from mollm.lab.fuse import Part
from mollm.lab.scores import paired_gain
from mollm.lab.worth import ALONE, LEARNED, MIXTURE, WAYS, WITHOUT, Plan, Prices, play, replay
from mollm.recording import Recording
from mollm.records import Item, LabelSet
from mollm_backend.cli import app
from tests.synthetic import synthetic


def make(accuracy: tuple[float, ...] = (0.8, 0.7, 0.65), N: int = 100) -> Recording:
    data = synthetic(N=N, accuracy=accuracy)
    items = tuple(Item(name) for name in data.signals.items)
    return Recording("made", LabelSet(data.signals.labels), items, data.signals, data.gold, 10, 0.7, 0.9)


def test_each_way_is_scored_on_the_same_items_and_the_member_is_left_out_of_the_others() -> None:
    made = make()
    name = made.signals.annotators[0]
    found = play(Part(made, None), name, 30, 5)
    assert set(found) == set(WAYS)
    assert {len(right) for right in found.values()} == {70}
    changed = made.signals.label_probs.copy()
    changed[:, 0] = 1 / 3
    other = replace(made, signals=replace(made.signals, label_probs=changed))
    again = play(Part(other, None), name, 30, 5)
    np.testing.assert_array_equal(found[WITHOUT], again[WITHOUT])
    assert (found[MIXTURE] != again[MIXTURE]).any()


def test_a_panel_of_equals_beats_one_of_them_and_a_useless_panel_does_not() -> None:
    equals = make((0.75, 0.75, 0.75, 0.75), 120)
    (stage,) = replay(equals, Plan(equals.signals.annotators[0], (0,), 2), Prices())["stages"]  # type: ignore[misc]
    assert stage["gain"][ALONE][0] > 0.03
    alone = make((0.9, 0.34, 0.34), 120)
    (stage,) = replay(alone, Plan(alone.signals.annotators[0], (0,), 2), Prices())["stages"]  # type: ignore[misc]
    assert stage["ways"][WITHOUT]["accuracy"] < stage["ways"][ALONE]["accuracy"]
    assert (stage["n"], stage["over"]) == (120, "items")
    mean, low, high = stage["gain"][WITHOUT]
    assert 0 < low < mean < high


def test_prices_add_up_and_what_was_not_told_is_not_known() -> None:
    prices = Prices(member=0.02, others=0.5, label=0.1, texts=10_000)
    assert prices.of(ALONE, 300) == 0.02
    assert prices.of(LEARNED, 300) == pytest.approx(0.02 + 3.0)
    assert prices.of(WITHOUT, 0) == 0.5
    assert prices.of(MIXTURE, 50) == pytest.approx(0.52 + 0.5)
    assert Prices(member=0.02).of(MIXTURE, 0) is None
    assert Prices(member=0.02, others=0.5).of(MIXTURE, 50) is None


def test_a_member_that_is_not_there_and_too_many_labels_are_refused() -> None:
    made = make()
    with pytest.raises(InputError, match="no member 'nobody'"):
        replay(made, Plan("nobody"), Prices())
    with pytest.raises(InputError, match="300 human labels"):
        replay(made, Plan(made.signals.annotators[0]), Prices())


def test_the_answer_is_the_same_for_any_number_of_jobs() -> None:
    made = make(N=60)
    name = made.signals.annotators[0]
    one, two = (replay(made, Plan(name, (20,), 2, jobs=jobs), Prices())["stages"] for jobs in (1, 2))
    assert one == two


@pytest.mark.parametrize(("n", "scale"), [(10, 0.01), (160, 0.6)])
def test_the_paired_interval_covers(n: int, scale: float) -> None:
    """As over ten seeds, and as over the items, where a difference is -1, 0 or 1."""
    rng, truth, hit, runs = np.random.default_rng(n), 0.02, 0, 3000
    for _ in range(runs):
        over_items = rng.choice([-1.0, 0.0, 1.0], n, p=[0.14, 0.70, 0.16])
        gain = rng.normal(truth, scale, n) if n == 10 else over_items
        _, low, high = paired_gain(gain.tolist(), [0.0] * n)
        assert low is not None
        assert high is not None
        hit += low <= truth <= high
    assert 0.935 < hit / runs < 0.965


def test_the_command_prints_a_table_and_json(tmp_path: Path) -> None:
    made = make(N=60)
    recording.save(tmp_path / "made", made)
    name = made.signals.annotators[0]
    counts = ["--human", "0", "--human", "20", "--seeds", "2", "--no-text", "--jobs", "1"]
    prices = ["--price", ".02", "--others-price", ".5", "--label-price", ".1"]
    words = ["replay", "worth", str(tmp_path / "made"), "--member", name, *counts, *prices]
    shown = CliRunner().invoke(app, words)
    assert shown.exit_code == 0, shown.output
    assert "20 labels: n = 2 seeds" in shown.output
    answer = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout.strip().splitlines()[-1])
    assert [stage["human"] for stage in answer["stages"]] == [0, 20]
    assert answer["stages"][1]["ways"][worth.MIXTURE]["price"] == pytest.approx(0.52 + 20 * 0.1 * 1000 / 60)
