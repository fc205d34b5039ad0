"""`replay fuse`: the split, the scores, and that gold of items nobody was asked about changes scores alone."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mollm import recording
from mollm.errors import InputError
from mollm.lab import fuse
from mollm.lab.fuse import CHOSEN, NAMES, Part, Plan, human_items, replay, split
from mollm.lab.scores import Score, best_annotator, paired_gain
from mollm.mixture.auto import Auto
from mollm.recording import Recording
from mollm.records import Item, LabelSet, Pool, Targets
from mollm_backend.cli import app
from tests.synthetic import synthetic

RECORDINGS = Path(os.environ.get("MOLLM_RECORDINGS", Path(__file__).parents[2] / "../shared/recordings"))


def make(N: int = 150, *, text: bool = False) -> Recording:
    data = synthetic(N=N, accuracy=(0.8, 0.7, 0.65, 0.6))
    items = tuple(Item(name, f"text {n}" if text else None) for n, name in enumerate(data.signals.items))
    return Recording("made", LabelSet(data.signals.labels), items, data.signals, data.gold, 10, 0.7, 0.9)


def test_the_answer_has_the_keys_of_the_issue_and_plain_numbers() -> None:
    answer = replay(make(), Plan(human=30, seeds=2, first_seed=4))
    assert list(answer) == ["recording", "human", "seeds", "results", "paired_gain", "seconds"]
    assert answer["seeds"] == [4, 5]
    parsed = json.loads(json.dumps(answer, allow_nan=False))
    assert list(parsed["results"]) == list(NAMES)
    for row in parsed["results"].values():
        assert len(row["accuracy"]) == 2
        assert row["mean"] == pytest.approx(np.mean(row["accuracy"]))
        assert 0 <= row["ece"] <= 1
        assert row["log_loss"] >= 0
    assert set(parsed["paired_gain"]) == {"auto-molam", "auto-logpool"}
    assert all(low <= mean <= high for mean, low, high in parsed["paired_gain"].values())


def test_human_labels_are_the_first_of_the_stated_stream() -> None:
    made = make()
    asked = human_items(Part(made, None), Plan(human=20), 7)
    np.testing.assert_array_equal(asked, np.random.default_rng([7, 1]).permutation(150)[:20])


def test_cold_start_begins_with_the_same_stream_and_never_asks_twice() -> None:
    made = make()
    asked = human_items(Part(made, None), Plan(human=45, choose="cold-start"), 7)
    np.testing.assert_array_equal(asked[:20], np.random.default_rng([7, 1]).permutation(150)[:20])
    assert len(set(asked.tolist())) == 45


def test_two_runs_give_the_same_answer() -> None:
    one, two = (replay(make(), Plan(human=25, seeds=2, names=("auto", "molam"))) for _ in range(2))
    assert {**one, "seconds": 0} == {**two, "seconds": 0}


def test_two_processes_give_the_answer_of_one() -> None:
    one, two = (replay(make(), Plan(human=20, seeds=3, names=("auto", "molam"), jobs=jobs)) for jobs in (1, 2))
    assert {**one, "seconds": 0} == {**two, "seconds": 0}


def test_held_back_items_are_the_same_for_every_seed_and_their_texts_are_nowhere_in_the_pool() -> None:
    made = make(text=True)
    items = tuple(replace(item, text=f"text {n // 2}") for n, item in enumerate(made.items))
    pool, test = split(Part(replace(made, items=items), np.arange(150.0)[:, None]), 30)
    assert test is not None
    assert len(test.recording.items) == 30
    assert not set(pool.recording.groups) & set(test.recording.groups)
    assert len(set(pool.recording.groups) | set(test.recording.groups)) == 75
    for part in (pool, test):
        assert part.embeddings is not None
        place = part.embeddings[:, 0].astype(int)
        np.testing.assert_array_equal(part.recording.gold, made.gold[place])
        assert part.recording.signals.items == tuple(made.signals.items[n] for n in place)


def test_both_choices_are_compared_on_the_same_held_back_items() -> None:
    plan = Plan(human=40, seeds=2, names=("auto",), test=40)
    both = replay(make(), replace(plan, choose="both"))
    alone = [replay(make(), replace(plan, choose=choose))["results"] for choose in ("random", "cold-start")]
    assert both["results"] == {"auto": alone[0]["auto"], CHOSEN: alone[1]["auto"]}  # type: ignore[index]
    rows = both["results"]
    expected = paired_gain(rows[CHOSEN]["accuracy"], rows["auto"]["accuracy"])  # type: ignore[index]
    assert both["paired_gain"] == {"cold-start-random": expected}


@pytest.mark.parametrize("choose", ["random", "cold-start"])
def test_shuffling_gold_of_never_asked_items_changes_nothing_but_scores(
    choose: fuse.Choice, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, plan = make(), Plan(human=40, seeds=1, choose=choose, names=tuple(n for n in NAMES if n != fuse.HINDSIGHT))
    seen: list[bytes] = []
    keep = Score.of
    monkeypatch.setattr(
        Score, "of", lambda probs, gold, scored: (seen.append(probs.tobytes()), keep(probs, gold, scored))[1]
    )
    asked = human_items(Part(made, None), plan, 0)
    replay(made, plan)
    rest = np.setdiff1d(np.arange(150), asked)
    shuffled = made.gold.copy()
    shuffled[rest] = np.random.default_rng(1).permutation(shuffled[rest])
    replay(replace(made, gold=shuffled), plan)
    assert seen[: len(plan.names)] == seen[len(plan.names) :]


def test_scores_leave_human_labelled_items_and_unknown_gold_out() -> None:
    probs = np.array([[0.9, 0.1], [0.9, 0.1], [0.2, 0.8], [0.4, 0.6]])
    score = Score.of(probs, np.array([1, 0, 1, -1]), np.array([False, True, True, True]))
    assert score.accuracy == 1.0
    assert score.log_loss == pytest.approx(-(np.log(0.9) + np.log(0.8)) / 2)
    assert score.ece == pytest.approx((0.1 + 0.2) / 2)


def test_hindsight_is_the_best_single_annotator() -> None:
    made = make()
    rest = np.ones(150, dtype=np.bool_)
    best = (best_annotator(made.signals, made.gold, rest).argmax(axis=1) == made.gold).mean()
    alone = [(made.signals.votes[:, m].argmax(axis=1) == made.gold).mean() for m in range(4)]
    assert best >= max(alone) - 0.02


def test_paired_gain_is_a_t_interval() -> None:
    mean, low, high = paired_gain([0.8, 0.82, 0.81], [0.7, 0.73, 0.71])
    assert mean == pytest.approx(0.09666666)
    assert low == pytest.approx(mean - 4.302652729911275 * np.std([0.1, 0.09, 0.1], ddof=1) / np.sqrt(3))
    assert high is not None
    assert paired_gain([0.8], [0.7])[1:] == [None, None]


def test_plans_that_cannot_be_served_say_so() -> None:
    made = make()
    with pytest.raises(InputError, match="no aggregator 'moLam'"):
        replay(made, Plan(names=("moLam",)))
    with pytest.raises(InputError, match="150 items have gold"):
        replay(made, Plan(human=150))
    with pytest.raises(InputError, match="--test 120"):
        replay(made, Plan(human=30, test=120))
    with pytest.raises(InputError, match="auto"):
        replay(made, Plan(choose="both", names=("molam",)))


def test_the_command_prints_one_json_object_and_goes_on_without_an_encoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOLLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MOLLM_ENCODER", "an-encoder-that-is-not-there")
    recording.save(tmp_path / "made", make(text=True))
    arguments = ["replay", "fuse", str(tmp_path / "made"), "--human", "20", "--seeds", "1", "--aggregator", "logpool"]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    assert json.loads(done.stdout)["results"]["logpool"]["mean"] > 0.6
    assert "without text" in done.stderr
    assert "without text" not in CliRunner().invoke(app, [*arguments, "--json", "--no-text"]).stderr
    table = CliRunner().invoke(app, [*arguments, "--no-text"])
    assert "logpool" in table.stdout


@pytest.mark.parametrize(("name", "pool", "human"), [("trec", 0.735, 0.765), ("imdb", 0.941, 0.94)])
def test_the_recorded_panels_stay_above_their_bars(name: str, pool: float, human: float) -> None:
    if not (RECORDINGS / name).is_dir():
        pytest.skip(f"the recording {name} is not at {RECORDINGS}: set MOLLM_RECORDINGS")
    made = recording.load(RECORDINGS / name)
    none = replay(made, Plan(human=0, seeds=1, names=("logpool",)))
    some = replay(made, Plan(human=50, seeds=2, names=("auto",)))
    assert none["results"]["logpool"]["mean"] >= pool  # type: ignore[index]
    assert some["results"]["auto"]["mean"] >= human  # type: ignore[index]


def test_auto_says_its_rung_and_why() -> None:
    data = synthetic(N=300)
    rng = np.random.default_rng(0)
    assert "too few" in Auto().fit(Pool(data.signals, Targets.of([], [])), rng=rng).explain()
    told = Auto().fit(Pool(data.signals, data.targets(60)), rng=rng).explain()
    assert "log-loss on 60 human labels" in told
    assert "stands on `" in told
