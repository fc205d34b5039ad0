"""Annotation discrepancy in numbers and in words."""

from __future__ import annotations

import numpy as np

from mollm.records import Signals
from mollm.round.discrepancy import Discrepancy
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
    assert entries[0].reason == (
        "The mixture says Cat (70%), next Dog (30%); the classifier says Dog; 1 of 2 LLMs disagree."
    )
    assert entries[1].reason == "The mixture says Dog (95%)."
    nobody = Discrepancy(MIXTURE, None, PANEL).entries(Picks(np.array([2]), np.array([1.0])), ("Cat", "Dog"))
    assert nobody[0].reason == "No model has said anything of this task yet."
