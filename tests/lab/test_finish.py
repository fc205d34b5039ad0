"""`replay finish`: the promise is kept over seeds, the labels are counted, and gold enters where it is asked alone."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mollm import recording as recordings
from mollm.acceptance.plan import Goal
from mollm.config import LoopConfig
from mollm.errors import InputError
from mollm.lab import finish
from mollm.lab.finish import Options, Project, replay
from mollm.lab.fuse import Part
from mollm.metrics import Estimate, mean_share
from mollm.recording import Recording
from mollm.records import FloatArray, Item, LabelSet
from mollm.round.run import RoundInput, RoundOutcome, run_round
from mollm_backend.cli import app, replay_finish
from tests.synthetic import synthetic

FAST = Options(Goal(target=0.85, batch=60), "head", seeds=4, config=LoopConfig(aggregator="logpool"))


def make(N: int = 400) -> Recording:
    data = synthetic(N=N, accuracy=(0.85, 0.8, 0.75))
    items = tuple(Item(name, None) for name in data.signals.items)
    return Recording("made", LabelSet(data.signals.labels), items, data.signals, data.gold, 10, 0.7, 0.9)


def test_the_promise_is_kept_over_seeds_and_the_labels_are_counted() -> None:
    answer = json.loads(json.dumps(replay(make(), FAST), allow_nan=False))
    keys = {"seeds", "labels", "audits", "share", "share_interval", "kept", "rows", "target", "confidence"}
    assert keys <= set(answer)
    assert keys <= set(answer["random"])
    for found in (answer, answer["random"]):
        assert found["seeds"] == list(range(100, 104))
        assert found["kept"] >= 3
        assert found["labels"] == np.mean([row["labels"] for row in found["rows"]])
        assert all(row["share"] == row["labels"] / 400 for row in found["rows"])
        assert all(row["labels"] - row["audits"] >= 50 for row in found["rows"])
        assert 0.1 < found["share"] < 0.85 - 0.01  # all by hand: .85
    assert sum(row["audits"] for row in answer["rows"]) > 0


def test_each_round_s_own_guess_stands_beside_the_truth() -> None:
    answer = replay(make(), FAST)
    guesses, random = answer["guesses"], answer["random"]["guesses"]  # type: ignore[index, call-overload]
    assert [row["labels"] for row in guesses][:2] == [50, 110]
    assert guesses[0]["n"] == 4
    for row in guesses:
        assert 0 <= row["between"] <= row["n"]
        assert row["expected"] <= row["allowing"] or row["labels"] <= 150
        assert abs(row["expected"] - row["right"]) < 0.15
    assert all(row["expected"] == pytest.approx(row["allowing"]) for row in random)
    told = finish.by_labels([finish.Guessed(50, 0.8, 0.9, 0.85), finish.Guessed(50, 0.7, 0.8, 0.6)])
    assert told == [{"labels": 50, "n": 2, "expected": 0.75, "allowing": pytest.approx(0.85),
                     "right": pytest.approx(0.725), "between": 1}]  # fmt: skip


def test_gold_that_nobody_was_asked_for_changes_no_label() -> None:
    made = make()
    first = Project(Part(made, None), None, FAST, 3)
    first.finished()
    hidden = np.flatnonzero(first.open)
    gold = made.gold.copy()
    gold[hidden] = np.random.default_rng(0).permutation(gold[hidden])
    assert (gold != made.gold).any()
    again = Project(Part(replace(made, gold=gold), None), None, FAST, 3)
    again.finished()
    np.testing.assert_array_equal(first.asked, again.asked)
    assert len(set(first.asked.tolist())) == len(first.asked)


def test_a_refused_audit_is_followed_by_labels_and_a_stricter_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mixture that is surer than it is right: the first audits fail, and the pool is finished all the same."""
    spent: list[float] = []
    known = finish.Bet.certified
    monkeypatch.setattr(finish.Bet, "certified", lambda *given: (spent.append(given[-1]), known(*given))[1])
    sure = finish.plan
    monkeypatch.setattr(finish, "plan", lambda c, *given, **more: sure(1 - (1 - c) / 10, *given, **more))
    played = Project(Part(make(), None), None, replace(FAST, goal=Goal(0.9, batch=60, audit=100)), 1).finished()[0]
    assert played.attempts == len(spent) >= 2
    assert spent == sorted(spent, reverse=True)
    assert sum(spent) < 0.05
    assert played.kept


def test_draws_of_an_audit_go_on_from_the_same_round(monkeypatch: pytest.MonkeyPatch) -> None:
    rounds: list[int] = []
    known = finish.run_round
    monkeypatch.setattr(finish, "run_round", lambda given, **how: (rounds.append(given.index), known(given, **how))[1])
    options = replace(FAST, seeds=2, rival=False)
    one, five = replay(make(), options), replay(make(), replace(options, draws=5))
    first, rows = one["rows"], five["rows"]
    assert isinstance(first, list)
    assert isinstance(rows, list)
    assert [(row["seed"], row["draw"]) for row in rows] == [(seed, draw) for seed in (100, 101) for draw in range(5)]
    assert [row for row in rows if row["draw"] == 0] == first
    assert len({row["labels"] for row in rows}) > 2
    assert five["seeds"] == [100, 101]
    assert five["share"] == pytest.approx(np.mean([row["share"] for row in rows]))
    shares = [np.mean([row["share"] for row in rows if row["seed"] == seed]) for seed in (100, 101)]
    assert five["share_interval"] == [mean_share(np.array(shares)).low, mean_share(np.array(shares)).high]
    assert all(row["attempts"] == 1 for row in rows)
    assert len(rounds) == 2 * sum(row["rounds"] for row in first)  # no round was fitted for a draw alone


def test_a_draw_that_is_refused_goes_on_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first of three audits fails whatever its answers say; the others end where they ended."""
    known, looks = finish.Bet.certified, list[float]()

    def refused(*given: Any) -> Any:
        looks.append(given[-1])
        found = known(*given)
        return replace(found, tasks=0) if len(looks) == 1 else found

    options = replace(FAST, seeds=1, rival=False, draws=3)
    monkeypatch.setattr(finish.Bet, "certified", refused)
    project = Project(Part(make(), None), None, options, 100)
    rows = project.finished()
    assert [row.draw for row in rows] == [0, 1, 2]
    assert rows[0].attempts == 2
    assert rows[0].rounds > rows[1].rounds == rows[2].rounds
    assert [row.attempts for row in rows[1:]] == [1, 1]
    assert looks[0] == looks[2] == looks[3] > looks[1]


def test_two_processes_give_the_answer_of_one() -> None:
    one, two = (replay(make(300), replace(FAST, seeds=2, rival=False, jobs=jobs)) for jobs in (1, 2))
    assert {**one, "seconds": 0} == {**two, "seconds": 0}
    assert "random" not in one


@pytest.mark.parametrize("classifier", ["auto", "head"])
def test_each_round_is_the_services(classifier: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder whose layers may be tuned goes into each round, and a round that takes minutes is told of."""
    seen: list[tuple[str, object]] = []

    def watched(given: RoundInput, **how: Any) -> RoundOutcome:
        seen.append((how["config"].classifier, how["encoder"]))
        return run_round(given, **how | {"encoder": None})

    monkeypatch.setattr(finish, "run_round", watched)
    encoder, told = Unasked(), list[str]()
    finish.play(Part(make(200), None), encoder, replace(FAST, classifier=classifier), 2, told.append)
    tunes = classifier == "auto"
    assert seen == [(classifier, encoder if tunes else None)] * len(seen)
    assert len(told) == tunes * len(seen)
    assert not tunes or told[0] == "seed 2: round 1 on 50 labels"


class Unasked:
    """An encoder that nobody calls."""

    def embed(self, texts: Sequence[str]) -> FloatArray:
        raise AssertionError(f"asked to embed {len(texts)} texts")


@pytest.mark.parametrize("seeds", [4, 20, 40])
def test_the_interval_of_a_mean_share_holds_it_at_any_number_of_seeds(seeds: int) -> None:
    rng, held = np.random.default_rng(seeds), 0
    for _ in range(1000):
        found = mean_share(rng.beta(30, 150, size=seeds))
        held += found.low <= 30 / 180 <= found.high
    assert held >= 930
    assert mean_share(np.array([0.2])) == Estimate(0.2, 0.0, 1.0)


def test_what_cannot_be_replayed_is_refused() -> None:
    with pytest.raises(InputError, match="40 items have gold"):
        replay(make(40), FAST)
    with pytest.raises(InputError, match="neither auto nor head"):
        replay(make(), replace(FAST, classifier="full"))


def test_the_command_prints_a_table_or_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = make(100)
    recordings.save(tmp_path / "made", made)
    words = ["replay", "finish", str(tmp_path / "made"), "--target", ".6", "--seeds", "1", "--classifier", "head",
             "--no-random", "--jobs", "1"]  # fmt: skip
    told = CliRunner().invoke(app, [*words, "--json"], catch_exceptions=False)
    answer = json.loads(told.stdout)
    assert (answer["target"], answer["seeds"]) == (0.6, [100])
    replay_finish.print_finish(answer)
    assert f"{answer['kept']} of 1" in capsys.readouterr().out
