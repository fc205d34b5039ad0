"""One label of a list: the whole list is asked, and its answer read as yes or no to that label."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mollm.annotators import Annotator, Answer, abstention, fingerprint
from mollm.annotators._listed import OfAList, Part
from mollm.config import AnnotatorConfig
from mollm.records import LabelSet

LIST = LabelSet(("urgent", "rude", "None of these"))
YES_OR_NO = LabelSet(("applies", "does not apply"), ("yes", "no"))
CONFIG = AnnotatorConfig(name="tiny", runtime="recording", model="nowhere")


class Whole(Annotator):
    """Says the same of each text, and nothing of an empty one."""

    runtime = "whole"
    closed = False

    def annotate_batch(self, texts: Sequence[str]) -> list[Answer]:
        said = Answer(np.array([0.5, 0.2, 0.3]), np.array([0.6, 0.1, 0.2]), abstained=0.1, prompt_tokens=7)
        return [said if text else abstention(3, "there is no text") for text in texts]

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def whole() -> Whole:
    return Whole(CONFIG, LIST, "Read.", (), Path("nowhere"))


@pytest.mark.parametrize(("name", "yes", "votes"), [("urgent", 0.5, 0.6), ("rude", 0.2, 0.1)])
def test_a_label_has_what_the_list_gives_to_it(whole: Whole, name: str, yes: float, votes: float) -> None:
    said, silent = OfAList(whole, Part(LIST, name), YES_OR_NO).annotate(["a text", ""])
    np.testing.assert_allclose(said.label_probs, [yes, 1 - yes])
    np.testing.assert_allclose(said.votes, [votes, 0.9 - votes])
    assert (said.abstained, said.prompt_tokens) == (0.1, 7)
    assert (silent.label_probs.sum(), silent.abstained, silent.error) == (0, 1, "there is no text")


def test_each_label_of_a_list_has_answers_of_its_own(whole: Whole) -> None:
    prints = {Part(LIST, name).fingerprint(CONFIG, "Read.") for name in LIST.names}
    assert len(prints | {fingerprint(CONFIG, LIST, "Read.", ())}) == 4
    rude = OfAList(whole, Part(LIST, "rude"), YES_OR_NO)
    assert rude.fingerprint in prints
    assert rude.describe() == whole.describe()
    rude.close()
    assert whole.closed
