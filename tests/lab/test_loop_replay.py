"""The loop on a recording: what it reports, and that gold which nobody asked for changes nothing but scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mollm import recording as recordings
from mollm.config import LoopConfig
from mollm.errors import ConfigError, InputError
from mollm.lab.experiment import LoopOptions, Run
from mollm.lab.figure import curves, draw, series
from mollm.lab.loop import replay, run_of
from mollm.recording import Recording
from mollm.records import FloatArray, Item, LabelSet, Signals
from mollm_backend.cli import app

CONFIG = LoopConfig(aggregator="logpool")
OPTIONS = LoopOptions(rounds=4, batch=10, test=40, strategy="margin", config=CONFIG)
WORDS = ("cat dog", "town road", "one two")


class LetterEncoder:
    def embed(self, texts: Sequence[str]) -> FloatArray:
        return np.array([[text.count(letter) for letter in "abcdefgh"] for text in texts], dtype=np.float64)


def made_up(N: int = 160, text: bool = True) -> Recording:
    rng = np.random.default_rng(0)
    gold = rng.integers(3, size=N)
    said = np.where(rng.random((N, 3)) < 0.6, gold[:, None], rng.integers(3, size=(N, 3)))
    probs = 0.1 + 0.7 * np.eye(3)[said]
    ids = tuple(str(n) for n in range(N))
    items = tuple(Item(ids[n], f"{WORDS[gold[n]]} {n}" if text else None) for n in range(N))
    labels = LabelSet(("animal", "place", "number"))
    return Recording(
        "made_up", labels, items, Signals(ids, ("x", "y", "z"), labels.names, probs, probs), gold, 10, 0.7, 0.9
    )


def played(recording: Recording, options: LoopOptions = OPTIONS, seed: int = 3) -> Run:
    run = run_of(recording, options, seed, LetterEncoder())
    run.play()
    return run


@pytest.mark.parametrize("annotate", ["mixture", "human"])
def test_gold_that_nobody_asked_for_changes_nothing_but_scores(annotate: str) -> None:
    recording = made_up()
    options = replace(OPTIONS, annotate=annotate, human_per_round=4)
    run = played(recording, options)
    asked = run.pool[run.human]
    others = np.setdiff1d(np.arange(len(recording.gold)), asked)
    gold = recording.gold.copy()
    gold[others] = np.random.default_rng(9).permutation(gold[others])
    again = played(replace(recording, gold=gold), options)
    assert len(run.probabilities) == 4
    assert again.picks == run.picks
    assert [probs.tobytes() for probs in again.probabilities] == [probs.tobytes() for probs in run.probabilities]
    assert [row for row in again.machine] == [row for row in run.machine]  # noqa: C416
    assert again.scores != run.scores


def test_the_first_batch_is_the_same_whatever_the_strategy() -> None:
    first = [played(made_up(), replace(OPTIONS, strategy=name, rounds=2)) for name in ("random", "margin")]
    order = np.random.default_rng([3, 2]).permutation(160)
    for run in first:
        np.testing.assert_array_equal(run.test, order[:40])
        np.testing.assert_array_equal(run.pool[run.human][:10], order[40:50])
    assert first[0].picks != first[1].picks


def test_test_items_are_never_picked_nor_are_their_copies() -> None:
    recording = made_up()
    items = list(recording.items)
    order = np.random.default_rng([3, 2]).permutation(160)
    copies = order[100:110]
    for test, copy in zip(order[:10], copies, strict=True):
        items[copy] = Item(items[copy].id, items[test].text)
    run = played(replace(recording, items=tuple(items)), replace(OPTIONS, annotate="human", batch=30, rounds=4))
    seen = set(run.pool[run.human])
    assert not seen & set(run.test)
    assert not seen & set(copies)


def test_the_report_has_the_shape_that_was_agreed() -> None:
    report = replay(made_up(), replace(OPTIONS, human_per_round=10), [1, 2], LetterEncoder())
    assert set(report) == {"curve", "label_accuracy", "pool_accuracy", "rest_accuracy", "human_labels", "seconds"}
    curve = report["curve"]
    assert isinstance(curve, dict)
    assert len(curve["mean"]) == 4
    assert [len(seed) for seed in curve["per_seed"]] == [4, 4]
    assert report["human_labels"] == [10, 20, 30, 40]
    assert report["label_accuracy"] == [None] * 4
    pool, rest = report["pool_accuracy"], report["rest_accuracy"]
    assert isinstance(pool, list)
    assert isinstance(rest, list)
    assert all(p > r or p == r == 1 for p, r in zip(pool, rest, strict=True))
    json.dumps(report, allow_nan=False)


@pytest.mark.parametrize("annotate", ["mixture", "majority", "mean_probs", "y"])
def test_who_labels_what_humans_do_not(annotate: str) -> None:
    run = played(made_up(), replace(OPTIONS, annotate=annotate, strategy="random"))
    assert run.scores[-1].human_labels == 10
    assert len(run.machine) == 30
    assert 0.3 < (run.scores[-1].label_accuracy or 0) <= 1


def test_the_losses_parts_can_be_switched_off() -> None:
    on = played(made_up(), replace(OPTIONS, rounds=3)).machine
    off = played(made_up(), replace(OPTIONS, rounds=3, discrepancy=False, negatives=False)).machine
    assert not any(row.negatives for row in off)
    by_item = {row.item: row for row in off}
    halved = [row for row in on if row.item in by_item and row.weight == pytest.approx(by_item[row.item].weight / 2)]
    assert halved


def test_without_text_the_mixture_is_scored_alone() -> None:
    report = replay(made_up(text=False), replace(OPTIONS, strategy="coreset"), [1], None)
    assert report["curve"] == {"mean": [None] * 4, "per_seed": [[None] * 4]}  # the paper's loop has no classifier
    assert isinstance(report["pool_accuracy"], list)


@pytest.mark.parametrize("annotate", ["mixture", "y"])
def test_the_paper_s_curve_is_the_same_without_the_pool_s_scores(annotate: str) -> None:
    options = replace(OPTIONS, strategy="random", annotate=annotate)
    whole, curve = played(made_up(), options), played(made_up(), replace(options, paper=True))
    assert [score.curve for score in curve.scores] == [score.curve for score in whole.scores]
    assert curve.picks == whole.picks
    assert curve.scores[-1].pool_accuracy is None
    assert not curve.probabilities


def test_the_oracle_of_the_paper_reads_the_text_alone() -> None:
    oracle = played(made_up(), replace(OPTIONS, annotate="human", paper=True))
    assert oracle.scores[-1].human_labels == 40
    assert (oracle.scores[-1].curve or 0) > 0.9


def test_a_pool_that_runs_dry_ends_quietly() -> None:
    run = played(made_up(), replace(OPTIONS, batch=40, rounds=5, annotate="human"))
    assert run.scores[-1].human_labels == 120
    assert run.scores[-1].rest_accuracy is None
    assert run.scores[-1].pool_accuracy == 1


def test_bad_input_is_named() -> None:
    with pytest.raises(InputError, match="--test"):
        run_of(made_up(), replace(OPTIONS, test=155), 0, None)
    with pytest.raises(ConfigError, match="strategy"):
        played(made_up(), replace(OPTIONS, strategy="luck"))
    with pytest.raises(ConfigError, match="annotate"):
        played(made_up(), replace(OPTIONS, annotate="nobody"))
    with pytest.raises(ConfigError, match="head, top"):
        played(made_up(), replace(OPTIONS, classifier="tail"))


def test_the_figure_has_a_curve_for_everyone() -> None:
    found = curves(
        made_up(), replace(OPTIONS, rounds=2, strategy="random"), [1, 2], LetterEncoder(), lambda _line: None
    )
    assert list(found) == list(series(made_up()))
    assert all(len(seed) == 2 and None not in seed for per_seed in found.values() for seed in per_seed)
    firsts = {per_seed[0][0] for per_seed in found.values()}
    assert len(firsts) == 1  # all start from the same human labels


def test_the_figure_is_drawn(tmp_path: Path) -> None:
    assert list(series(made_up())) == ["ours", "oracle", "LLMs-V", "LLMs-L", "x", "y", "z"]
    draw({"ours": [[0.5, 0.6], [0.6, 0.7]], "none": [[None, None]]}, "made up", tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_prints_json(tmp_path: Path) -> None:
    recordings.save(tmp_path / "rec", made_up(text=False))
    command = [
        "replay",
        "loop",
        str(tmp_path / "rec"),
        *["--rounds", "2", "--batch", "10", "--test", "40", "--seeds", "1"],
    ]
    ran = CliRunner().invoke(app, [*command, "--json", "--plot", str(tmp_path / "curve.svg")])
    assert ran.exit_code == 0, ran.output
    assert json.loads(ran.stdout.strip().splitlines()[-1])["human_labels"] == [10, 10]


@pytest.mark.parametrize("command", ["loop", "figure", "fuse"])
def test_the_encoder_is_the_one_that_mollm_env_names(
    command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "mollm.env").write_text("MOLLM_ENCODER=my-own-encoder\n", encoding="utf-8")
    monkeypatch.setenv("MOLLM_HOME", str(home))
    monkeypatch.delenv("MOLLM_ENCODER", raising=False)
    recordings.save(tmp_path / "rec", made_up())
    ran = CliRunner().invoke(app, ["replay", command, str(tmp_path / "rec"), "--seeds", "1"])
    missing = f"There is no encoder at {home.resolve() / 'models' / 'my-own-encoder'}"
    assert missing in (ran.stderr if command == "fuse" else str(ran.exception))
