"""`replay finish`: the promise is kept over seeds, the labels are counted, and gold enters where it is asked alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

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
from mollm.recording import Recording
from mollm.records import Item, LabelSet
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
    played = Project(Part(make(), None), None, replace(FAST, goal=Goal(0.9, batch=60, audit=100)), 1).finished()
    assert played.attempts == len(spent) >= 2
    assert spent == sorted(spent, reverse=True)
    assert sum(spent) < 0.05
    assert played.kept


def test_two_processes_give_the_answer_of_one() -> None:
    one, two = (replay(make(300), replace(FAST, seeds=2, rival=False, jobs=jobs)) for jobs in (1, 2))
    assert {**one, "seconds": 0} == {**two, "seconds": 0}
    assert "random" not in one


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
