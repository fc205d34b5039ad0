"""`replay suspects`: what is flipped, what is measured, and that the list is far better than chance."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from typer.testing import CliRunner

from mollm.errors import InputError
from mollm.lab import suspects
from mollm.lab.suspects import OURS, RANDOM, RIVALS, Plan, noisy, replay
from mollm.records import FloatArray, IntArray
from mollm_backend.cli import app
from tests.lab.test_fuse import make

PLAN = Plan(human=120, noise=0.1, top=12, seeds=2, first_seed=4)


@pytest.fixture
def cleanlab(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another cleanlab, whose two rankings are as its documentation defines them."""

    def get_label_quality_scores(labels: IntArray, pred_probs: FloatArray, *, method: str) -> FloatArray:
        given = pred_probs[np.arange(len(labels)), labels]
        others = pred_probs.copy()
        others[np.arange(len(labels)), labels] = -1
        return np.asarray(given if method == "self_confidence" else (given - others.max(axis=1) + 1) / 2)

    rank = ModuleType("cleanlab.rank")
    rank.get_label_quality_scores = get_label_quality_scores  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cleanlab", ModuleType("cleanlab"))
    monkeypatch.setitem(sys.modules, "cleanlab.rank", rank)


@pytest.fixture
def no_cleanlab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cleanlab", None)
    monkeypatch.setitem(sys.modules, "cleanlab.rank", None)


def test_the_stated_share_is_flipped_to_another_class() -> None:
    made = make()
    given = noisy(made, PLAN, 7)
    np.testing.assert_array_equal(given.index, np.random.default_rng([7, 1]).permutation(150)[:120])
    assert (given.label != made.gold[given.index]).sum() == 12
    assert set(given.label.tolist()) <= {0, 1, 2}
    many = noisy(replace(made, gold=np.zeros_like(made.gold)), replace(PLAN, noise=0.9), 7)
    assert np.ptp(np.bincount(many.label)[1:]) < 40  # both other classes, about equally often


def test_the_answer_and_its_rivals(cleanlab: None) -> None:
    answer = json.loads(json.dumps(replay(make(), PLAN), allow_nan=False))
    assert list(answer) == ["recording", "human", "noise", "top", "seeds", "precision", "means", "seconds"]
    assert answer["seeds"] == [4, 5]
    assert set(answer["precision"]) == {OURS, RANDOM, *RIVALS.values()}
    for name, shares in answer["precision"].items():
        assert answer["means"][name] == pytest.approx(np.mean(shares))
    assert answer["means"][OURS] > answer["means"][RANDOM] + 0.2


def test_gold_of_other_items_changes_nothing(no_cleanlab: None) -> None:
    made, plan = make(), replace(PLAN, seeds=1)
    asked = np.random.default_rng([4, 1]).permutation(150)[:120]
    gold = (made.gold + 1) % 3
    gold[asked] = made.gold[asked]
    other = replay(replace(made, gold=gold), plan)
    assert other["precision"] == replay(made, plan)["precision"]


def test_the_real_cleanlab_ranks_the_same_rows() -> None:
    rank = pytest.importorskip("cleanlab.rank")
    heard = suspects.heard_of(suspects.Part(make(), None), noisy(make(), PLAN, 4), 4)
    found = suspects.rankings(heard)
    for how, name in RIVALS.items():
        np.testing.assert_allclose(
            found[name], -rank.get_label_quality_scores(heard.targets.label, heard.mixture, method=how)
        )


@pytest.mark.parametrize(
    "plan",
    [replace(PLAN, human=151), replace(PLAN, top=121), replace(PLAN, top=0), replace(PLAN, noise=0.0),
     replace(PLAN, noise=1.0), replace(PLAN, noise=0.001), replace(PLAN, seeds=0)],
)  # fmt: skip
def test_plans_that_cannot_be_served_are_refused(plan: Plan) -> None:
    with pytest.raises(InputError, match=r"--|gold"):
        replay(make(), plan)


def test_the_command_prints_json_and_says_that_cleanlab_is_missing(
    no_cleanlab: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mollm.recording.load", lambda _: make())
    words = ["replay", "suspects", str(tmp_path), "--human", "120", "--noise", ".1", "--top", "12", "--seeds", "1"]
    done = CliRunner().invoke(app, [*words, "--no-text", "--json"], catch_exceptions=False)
    answer = json.loads(done.stdout)
    assert set(answer["precision"]) == {OURS, RANDOM}
    assert "pip install cleanlab" in done.stderr
    table = CliRunner().invoke(app, [*words, "--no-text"], catch_exceptions=False).stdout
    assert "precision at 12" in table
