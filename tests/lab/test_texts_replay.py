"""The replay of the text classifier alone: no LLM speaks, gold is seen for the labelled alone, whole beats cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mollm.classifier.encoder import Encoder
from mollm.errors import InputError
from mollm.lab import texts
from mollm.recording import Recording
from tests.tiny_encoder import tiny

__all__ = ["tiny"]

ENDS = (("where is the city in", "what town"), ("who is the man", "what name does a person"))


def long_texts(N: int) -> Recording:
    """Texts whose first window says nothing: what they are about stands at their end."""
    rng = np.random.default_rng(0)
    gold = rng.integers(2, size=N)
    filler = [" ".join(rng.choice(["the", "a", "of", "number", "year"], 40)) for _ in range(N)]
    known = [f"{filler[n]} {ENDS[gold[n]][n % 2]} {ENDS[gold[n]][n % 2]} {ENDS[gold[n]][0]}" for n in range(N)]
    return texts.recording_of("long", known, [("place", "person")[c] for c in gold], ("place", "person"))


def test_what_stands_at_the_end_is_learned_where_texts_are_read_whole(tiny: Path) -> None:
    recording, plan = long_texts(80), texts.Plan(human=30, seeds=1, first_seed=5)
    encoders = {"whole": Encoder(tiny), "cut": Encoder(tiny, most=1)}
    answer = texts.replay(recording, plan, encoders)
    whole, cut = (answer["results"][name] for name in encoders)  # type: ignore[index]
    assert min(whole["accuracy"]) > 0.9
    assert max(cut["accuracy"]) < 0.75
    assert whole["unread"]["tokens"] == 0
    assert cut["unread"]["longer"] == 80


def test_the_gold_of_the_others_is_not_seen(tiny: Path) -> None:
    recording = long_texts(60)
    asked = np.random.default_rng([5, texts.STREAM]).permutation(60)[:20]
    shown = recording.gold.copy()
    others = np.setdiff1d(np.arange(60), asked)
    recording.gold[others] = 1 - recording.gold[others]
    plan = texts.Plan(human=20, seeds=1, first_seed=5)
    flipped = texts.replay(recording, plan, {"whole": Encoder(tiny)})
    recording.gold[:] = shown
    usual = texts.replay(recording, plan, {"whole": Encoder(tiny)})
    pair = [answer["results"]["whole"]["accuracy"][0] for answer in (usual, flipped)]  # type: ignore[index]
    assert pair[0] == pytest.approx(1 - pair[1])


def test_the_encoder_as_an_annotator_speaks_before_any_label(tiny: Path) -> None:
    names = ("where is the city", "who is the man")
    gold = [names[n % 2] for n in range(40)]
    recording = texts.recording_of("near", [f"This text is about {name} {'a the of'[: 1 + n % 8]}" for n, name in
                                            enumerate(gold)], gold, names)  # fmt: skip
    answer = texts.replay(recording, texts.Plan(human=0, seeds=1, names=True), {"whole": Encoder(tiny)})
    alone, named = (answer["results"][way]["accuracy"][0] for way in ("whole", texts.NAMES))  # type: ignore[index]
    assert named > max(alone, 0.9)
    assert answer["paired_gain"]["names-whole"][0] == pytest.approx(named - alone)  # type: ignore[index]


def test_a_plan_that_leaves_nothing_to_score_is_named(tiny: Path) -> None:
    with pytest.raises(InputError, match="left to score"):
        texts.replay(long_texts(10), texts.Plan(human=10), {"whole": Encoder(tiny)})
