"""Planted wrong labels come first, a minority is suspect, and a reason names who says what."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mollm.errors import InputError
from mollm.people.suspects import Heard, doubts, suspects
from mollm.records import FloatArray, Signals, Targets

LABELS = ("World", "Sports", "Tech")


def panel(*said: int | None) -> Signals:
    """One item: each of the LLMs says one class with .8, or nothing."""
    rows = np.full((1, len(said), 3), np.nan)
    for m, c in enumerate(said):
        if c is not None:
            rows[0, m] = np.where(np.arange(3) == c, 0.8, 0.1)
    return Signals(("7",), tuple(f"llm-{m}" for m in range(len(said))), LABELS, rows, rows)


def sure(*labels: int, p: float = 0.96) -> FloatArray:
    """(H, 3): a distribution that gives each label `p`."""
    return np.array([np.where(np.arange(3) == c, p, (1 - p) / 2) for c in labels])


def test_a_reason_names_who_is_on_each_side() -> None:
    targets = Targets.of([0, 0], [1, 0])
    heard = Heard(targets, panel(0, 0, None, 1), sure(0, 0), classifier=sure(0, 0, p=0.9))
    (found,) = suspects(heard, 10)
    assert (found.row, found.given, found.suggested) == (0, 1, 0)
    assert found.reason == (
        "World: 2 of 3 LLMs (llm-0, llm-1), the mixture (0.96), the classifier (0.90) and 1 other person; "
        "Sports: 1 of 3 LLMs (llm-3)"
    )


def test_a_label_that_nobody_contradicts_is_not_listed() -> None:
    signals = panel(0, 0)
    assert suspects(Heard(Targets.of([0], [0]), signals, sure(0)), 10) == ()
    assert suspects(Heard(Targets.of([0], [1]), signals, sure(0, p=0.6)), 10) == ()  # less sure than one person
    assert len(suspects(Heard(Targets.of([0], [1]), signals, sure(0)), 10)) == 1
    assert suspects(Heard(Targets.of([], []), signals, np.empty((0, 3))), 10) == ()


def test_the_minority_of_three_people_is_suspect_where_the_machines_know_nothing() -> None:
    heard = Heard(Targets.of([0, 0, 0], [2, 1, 1]), panel(None), np.full((3, 3), 1 / 3))
    assert [(row.row, row.suggested) for row in suspects(heard, 10)] == [(0, 1)]


def test_a_weaker_label_is_more_suspect() -> None:
    targets = Targets(np.array([0, 0]), np.array([0, 1]), np.array([0.2, 1.0]))
    score, _ = doubts(Heard(targets, panel(None), np.full((2, 3), 1 / 3)))
    assert score[0] > 0 > score[1]


def test_each_view_counts_and_a_missing_one_does_not() -> None:
    targets = Targets.of([0], [0])
    doubtful = doubts(Heard(targets, panel(1), sure(0)))[0]
    assert doubts(Heard(targets, panel(1), sure(0), panel=sure(1)))[0] > doubtful
    assert doubts(Heard(targets, panel(1), sure(0), classifier=sure(1)))[0] > doubtful
    nothing = np.full((1, 3), np.nan)
    assert doubts(Heard(targets, panel(1), sure(0), nothing, nothing))[0] == doubtful


def test_where_each_view_is_for_another_label_they_speak_together() -> None:
    of_three = np.array([[0.02, 0.45, 0.53]])
    heard = Heard(Targets.of([0], [0]), panel(None), of_three, panel=np.array([[0.0, 1.0, 0.0]]))
    assert suspects(heard, 1)[0].reason == "Sports: all of them together (0.72)"


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_labels_changes_no_score(seed: int) -> None:
    rng = np.random.default_rng(seed)
    H, N = int(rng.integers(1, 12)), 5
    signals = Signals(tuple("abcde"), ("llm",), LABELS, np.full((N, 1, 3), 1 / 3), np.full((N, 1, 3), 1 / 3))
    targets = Targets(rng.integers(0, N, H), rng.integers(0, 3, H), rng.uniform(0.1, 1, H))
    mixture, classifier = rng.dirichlet(np.ones(3), H), rng.dirichlet(np.ones(3), H)
    score, suggested = doubts(Heard(targets, signals, mixture, classifier=classifier))
    assert (suggested != targets.label).all()
    order = rng.permutation(H)
    again = doubts(Heard(targets.take(order), signals, mixture[order], classifier=classifier[order]))
    np.testing.assert_allclose(again[0], score[order])
    ranked = [row.score for row in suspects(Heard(targets, signals, mixture, classifier=classifier), 4)]
    assert ranked == sorted(score[score > 0], reverse=True)[:4]


def test_planted_noise_comes_before_chance_and_before_the_mixture_alone() -> None:
    """Three views with errors of their own: together they find more planted labels than one of them."""
    alone, together = [], []
    for seed in range(20):
        rng = np.random.default_rng(seed)
        H, C = 400, 3
        gold = rng.integers(0, C, H)
        wrong = rng.random(H) < 0.05
        label = np.where(wrong, (gold + rng.integers(1, C, H)) % C, gold)
        views = []
        for _ in range(3):
            logits = rng.normal(0, 1.5, (H, C))
            logits[np.arange(H), gold] += 3
            views.append(np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True))
        signals = Signals(tuple(map(str, range(H))), (), LABELS, np.empty((H, 0, C)), np.empty((H, 0, C)))
        for found, heard in ((alone, Heard(Targets.of(np.arange(H), label), signals, views[0])),
                             (together, Heard(Targets.of(np.arange(H), label), signals, *views))):  # fmt: skip
            first = np.argsort(-doubts(heard)[0])[: int(wrong.sum())]
            found.append(wrong[first].mean())
    assert np.mean(together) > np.mean(alone) + 0.1
    assert np.mean(alone) > 5 * 0.05


def test_parts_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="classifier"):
        Heard(Targets.of([0], [0]), panel(0), sure(0), classifier=sure(0, 0))
