"""The text encoder as an annotator: near a label's name means that label, and what cannot be read is an abstention."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mollm.annotators import needs, open_annotator
from mollm.annotators.encoder import ABOUT
from mollm.config import AnnotatorConfig
from mollm.errors import ModelFileError
from mollm.records import LabelSet
from tests.tiny_encoder import tiny

__all__ = ["tiny"]

LABELS = LabelSet(("where city town", "who man person", "how many number"))


def config(model: Path) -> AnnotatorConfig:
    return AnnotatorConfig(name="near", runtime="encoder", model=str(model))


def test_a_text_that_is_the_label_s_own_sentence_gets_that_label(tiny: Path) -> None:
    with open_annotator(config(tiny), LABELS, "i") as annotator:
        answers = annotator.annotate([ABOUT.format(name) for name in LABELS.names])
    said = np.array([answer.label_probs for answer in answers])
    assert said.argmax(axis=1).tolist() == [0, 1, 2]
    np.testing.assert_allclose(said.sum(axis=1), 1)
    assert not any(answer.error for answer in answers)


def test_what_a_label_is_shown_as_and_its_description_are_compared(tiny: Path) -> None:
    names = ("a", "b", "c")
    shown = LabelSet(names, shown=LABELS.names)
    described = LabelSet(names, descriptions=LABELS.names)
    texts = [ABOUT.format(name) for name in LABELS.names]
    with open_annotator(config(tiny), shown, "i") as annotator:
        assert [int(answer.label_probs.argmax()) for answer in annotator.annotate(texts)] == [0, 1, 2]
    with open_annotator(config(tiny), described, "i") as annotator:
        texts = [ABOUT.format(f"{name}: {told}") for name, told in zip(names, LABELS.names, strict=True)]
        assert [int(answer.label_probs.argmax()) for answer in annotator.annotate(texts)] == [0, 1, 2]


def test_a_blank_text_is_an_abstention_and_the_others_are_answered(tiny: Path) -> None:
    with open_annotator(config(tiny), LABELS, "i") as annotator:
        blank, told = annotator.annotate([" \n", "who is the man"])
    assert blank.abstained == 1
    assert "blank" in blank.error
    assert told.abstained == 0


def test_what_it_holds_is_known_and_a_missing_model_says_what_to_do(tiny: Path, tmp_path: Path) -> None:
    weights = (tiny / "model.safetensors").stat().st_size
    assert needs(config(tiny), tmp_path).bytes == int(1.5 * weights)
    with pytest.raises(ModelFileError, match=r"near: there is no model .* run `mollm doctor`"):
        open_annotator(config(tmp_path / "none"), LABELS, "i")
