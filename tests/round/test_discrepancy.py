"""Annotation discrepancy in numbers and in words."""

from __future__ import annotations

import re

import numpy as np
import pytest

from mollm.records import Signals
from mollm.round.discrepancy import LONGEST, Discrepancy
from mollm.strategies import Picks

NAN = [np.nan, np.nan]
PROBS = np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.1, 0.9], NAN], [NAN, NAN]])
PANEL = Signals(("a", "b", "c"), ("x", "y"), ("cat", "dog"), PROBS, PROBS)
MIXTURE = np.array([[0.7, 0.3], [0.05, 0.95], [0.5, 0.5]])


def test_who_differs_from_the_mixture() -> None:
    classifier = np.array([[0.4, 0.6], [0.1, 0.9], [0.9, 0.1]])
    found = Discrepancy(MIXTURE, classifier, PANEL)
    np.testing.assert_array_equal(found.with_classifier, [True, False, False])
    np.testing.assert_array_equal(found.against, [[False, True], [False, False], [False, False]])


def test_the_reasons_are_plain_words() -> None:
    classifier = np.array([[0.4, 0.6], [0.1, 0.9], [0.9, 0.1]])
    picks = Picks(np.array([0, 1, 2]), np.array([1.0, 0.5, 0.0]))
    entries = Discrepancy(MIXTURE, classifier, PANEL).entries(picks, ("Cat", "Dog"))
    assert [entry.item for entry in entries] == ["a", "b", "c"]
    assert [entry.rank for entry in entries] == [0, 1, 2]
    assert entries[0].reason == "The mixture says Cat (70%), next Dog (30%); y says Dog, classifier says Dog."
    assert entries[1].reason == "The mixture says Dog (95%)."
    nobody = Discrepancy(MIXTURE, None, PANEL).entries(Picks(np.array([2]), np.array([1.0])), ("Cat", "Dog"))
    assert nobody[0].reason == "No model has said anything of this task yet."
    same = Signals(("a",), ("x", "y"), ("cat", "dog"), PROBS[:1, [0, 0]], PROBS[:1, [0, 0]])
    agreed = Discrepancy(MIXTURE[:1], classifier[:1], same).entries(Picks(np.array([0]), np.ones(1)), ("Cat", "Dog"))
    assert agreed[0].reason == "The mixture says Cat (70%), next Dog (30%), and both LLMs agree; classifier says Dog."


@pytest.mark.parametrize("letters", [3, 12, 30, 45, 90])
@pytest.mark.parametrize("M", [1, 2, 5, 9])
def test_a_reason_is_one_line_that_cuts_no_label_and_counts_whom_it_leaves_out(letters: int, M: int) -> None:
    names = tuple(f"llm-{m}" for m in range(M))
    shown = tuple(f"{'label' * 20}"[: letters - 1] + str(c) for c in range(3))
    probs = np.tile([0.1, 0.1, 0.8], (1, M, 1))
    found = Discrepancy(np.array([[0.5, 0.4, 0.1]]), None, Signals(("a",), names, shown, probs, probs))
    reason = found.entries(Picks(np.array([0]), np.ones(1)), shown)[0].reason
    assert reason.startswith(f"The mixture says {shown[0]} (50%)")
    assert len(reason) <= max(LONGEST, len(f"The mixture says {shown[0]} (50%); {M} say otherwise."))
    named = reason.count(f" says {shown[2]}")
    counted = re.search(r"(\d+) (?:more|say otherwise)\.$", reason)
    assert named + int(counted.group(1) if counted else 0) == M
    assert reason.count("label") == 0 or all(whole in shown for whole in re.findall(r"label\w*\d", reason))
