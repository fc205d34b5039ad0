"""`replay accept`, `replay estimate`: the promise on made-up recordings, and what gold is shown to whom."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from mollm.acceptance.audit import Design
from mollm.errors import InputError
from mollm.lab import accept, estimates
from mollm.lab.accept import AUDIT_STREAM, Plan, fitted, ordered
from mollm.lab.fuse import Part
from mollm.recording import Recording
from mollm.records import Item, LabelSet
from tests.synthetic import synthetic


def make(N: int = 500) -> Recording:
    data = synthetic(N=N, accuracy=(0.9, 0.85, 0.8, 0.8))
    items = tuple(Item(name) for name in data.signals.items)
    return Recording("made", LabelSet(data.signals.labels), items, data.signals, data.gold, 10, 0.7, 0.9)


def test_the_answer_has_the_keys_of_the_issue_and_the_promise_is_kept() -> None:
    answer = accept.replay(make(), Plan(human=40, audit=120, targets=(0.9,), seeds=8))
    assert {"kept", "accepted", "refused", "audits", "oracle"} <= set(answer)
    assert answer["seeds"] == list(range(100, 108))
    parsed = json.loads(json.dumps(answer, allow_nan=False))
    assert parsed["kept"] >= 7
    assert 0.3 < parsed["accepted"] <= 1
    assert parsed["audits"] == 120
    assert parsed["refused"] == np.mean(np.array(parsed["shares"]) == 0)
    assert parsed["accepted"] <= parsed["oracle"] + 0.1


def test_several_targets_share_the_fits_and_a_higher_one_accepts_less() -> None:
    answer = accept.replay(make(), Plan(human=40, audit=120, targets=(0.8, 0.95), seeds=4))
    results = answer["results"]
    assert isinstance(results, dict)
    assert results["0.8"]["accepted"] > results["0.95"]["accepted"]


def test_gold_that_nobody_was_shown_changes_nothing_but_the_score() -> None:
    made, plan = make(), Plan(human=40, audit=100, targets=(0.9,), seeds=1, first_seed=3)
    asked, outcome = fitted(Part(made, None), 40, 3)
    rest = np.setdiff1d(np.arange(500), asked)
    order = rest[np.argsort(-outcome.probabilities[rest].max(axis=1), kind="stable")]
    confidence, _ = ordered(outcome.probabilities[rest], made.gold[rest])
    rng = np.random.default_rng([3, AUDIT_STREAM])
    design: Design = accept.outlook(confidence, 100, accept.share_of(0.9), 0.05, rng=rng).design
    shown = np.concatenate([asked, order[design.draw(rng)]])
    hidden = np.setdiff1d(np.arange(500), shown)
    shuffled = made.gold.copy()
    shuffled[hidden] = np.random.default_rng(0).permutation(shuffled[hidden])
    (before,), (after,) = (accept.play(Part(one, None), plan, 3) for one in (made, replace(made, gold=shuffled)))
    assert (before.share, before.expected) == (after.share, after.expected)
    assert before.oracle != after.oracle


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"targets": (1.0,)}, "--target 1 cannot be promised"),
        ({"confidence": 1.5}, "--confidence 1.5 cannot be promised"),
        ({"audit": 480}, "some must be left to accept"),
    ],
)
def test_plans_that_cannot_be_played_are_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        accept.replay(make(), replace(Plan(human=40, audit=100, seeds=1), **change))  # type: ignore[arg-type]


def test_estimates_stand_beside_the_truth() -> None:
    answer = estimates.replay(make(), estimates.Plan(human=(40,), audits=(30, 100), seeds=6))
    stages = answer["stages"]
    assert isinstance(stages, list)
    assert [row["audits"] for row in stages] == [30, 100]
    for row in stages:
        assert row["low"] <= row["said"] <= row["high"]
        assert row["covered"] >= 5
    assert stages[1]["high"] - stages[1]["low"] < stages[0]["high"] - stages[0]["low"]
