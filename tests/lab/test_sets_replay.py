"""Multiple choices, replayed: a list is built from a recording, and the default panel on texts of our own."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mollm import recording
from mollm.errors import InputError
from mollm.lab import made_up, sets
from mollm.recording import Recording
from mollm.records import FloatArray, Item, LabelSet
from mollm_backend.cli import app
from tests.lab.own_texts import listed, rated


def make(N: int, C: int) -> Recording:
    signals, gold = made_up.panel(N, 3, C, np.random.default_rng(0))
    items = tuple(Item(name, None) for name in signals.items)
    return Recording("made", LabelSet(signals.labels), items, signals, gold, made_up.SAMPLES, 0.7, 0.9)


def test_a_text_is_made_of_items_that_are_used_once() -> None:
    made = make(300, 6)
    found = sets.built(made, 100, np.random.default_rng(0))
    assert found.signals.C == 6
    assert found.truth.shape == (found.signals.N, 5)
    np.testing.assert_allclose(found.signals.label_probs.sum(axis=2), 1)
    assert set(found.truth.sum(axis=1)) == {0, 1, 2, 3}
    right = found.signals.label_probs.mean(axis=1)[:, :5]
    assert right[found.truth].mean() > right[~found.truth].mean()


def test_a_made_up_text_is_that_of_its_items() -> None:
    made = make(300, 6)
    spoken = replace(
        made,
        items=tuple(Item(item.id, f"<{made.labels.names[c]}>") for item, c in zip(made.items, made.gold, strict=True)),
    )
    found = sets.built(spoken, 60, np.random.default_rng(0))
    assert sets.built(made, 60, np.random.default_rng(0)).texts is None
    assert found.texts is not None
    listed_labels = found.signals.labels[:-1]
    told = np.array([[f"<{label}>" in text for label in listed_labels] for text in found.texts])
    np.testing.assert_array_equal(told, found.truth)


class Marks:
    """An encoder that sees which labels a text names."""

    def embed(self, texts: Sequence[str]) -> FloatArray:
        return np.array([[f"<{c}>" in text for c in range(5)] for text in texts], dtype=np.float64)


def test_texts_have_a_part_where_there_is_an_encoder() -> None:
    found = sets.built(make(400, 6), 120, np.random.default_rng(0))
    texts = tuple("".join(f"<{c}>" for c in np.flatnonzero(row)) or "-" for row in found.truth)
    found = replace(found, texts=texts)
    panel, both = (sets.play(found, 40, 3, encoder)[sets.OURS] for encoder in (None, Marks()))
    assert both.f1 > panel.f1 + 0.05
    silent = replace(found, texts=None)
    one, two = (sets.play(silent, 40, 3, encoder)[sets.OURS] for encoder in (None, Marks()))
    assert one == two


def test_three_labels_make_no_list() -> None:
    with pytest.raises(InputError, match="at least four"):
        sets.built(make(60, 3), 20, np.random.default_rng(0))


def test_gold_of_texts_that_nobody_labelled_only_scores() -> None:
    found = sets.built(make(300, 6), 60, np.random.default_rng(0))
    asked = np.sort(np.random.default_rng([3, sets.ASKED]).permutation(found.truth.shape[0])[:20])
    other = ~found.truth
    other[asked] = found.truth[asked]
    one, two = (sets.play(each, 20, 3) for each in (found, replace(found, truth=other)))
    assert one[sets.OURS].decisions == pytest.approx(1 - two[sets.OURS].decisions)


@pytest.mark.parametrize("name", ["hotel", "city"])
def test_before_any_label_sets_beat_nothing_and_the_single_best_label(name: str) -> None:
    played = sets.play(listed(name), 0, 100)
    ours = played[sets.OURS]
    for rival in (sets.NOTHING, sets.SINGLE):
        assert ours.f1 > played[rival].f1
        assert ours.exact > played[rival].exact


def test_stars_asked_for_in_words_are_more_often_right_than_in_numbers() -> None:
    (right, off), (less, more) = rated("stars"), rated("stars_as_numbers")
    assert right > less + 0.1
    assert off < more < 1.3  # always the middle is 1.2 off


def test_the_best_llm_is_cut_where_its_f1_is_highest() -> None:
    truth = np.array([[True], [False], [True], [False]])
    shares = np.array([[[0.2], [0.9]], [[0.1], [0.8]], [[0.3], [0.1]], [[0.05], [0.5]]])
    np.testing.assert_array_equal(sets.best_llm(shares, truth, np.arange(4)), truth)


def test_the_command_prints_each_rival(tmp_path: Path) -> None:
    recording.save(tmp_path / "made", make(300, 6))
    command = ["replay", "sets", str(tmp_path / "made"), "--texts", "60", "--seeds", "1", "--human", "10"]
    shown = CliRunner().invoke(app, [*command, "--json"])
    assert shown.exit_code == 0, shown.output
    answer = json.loads(shown.stdout)
    assert set(answer) == {sets.OURS, sets.HALVES, sets.SINGLE, sets.NOTHING, sets.LLM}
    assert sets.OURS in CliRunner().invoke(app, command).output
