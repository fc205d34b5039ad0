"""What an annotator makes of a text that is longer than its window: parts, and one answer from theirs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mollm.annotators import Annotator, Answer, abstention
from mollm.config import AnnotatorConfig
from mollm.records import LabelSet

WINDOW = 8  # words
LABELS = LabelSet(("good", "poor"))


class OfWords(Annotator):
    """Counts the words `good` and `poor` among the first eight; abstains where there is neither."""

    runtime = "of words"

    def annotate_batch(self, texts: Sequence[str]) -> list[Answer]:
        self.asked = [*getattr(self, "asked", []), *texts]
        return [self.answer(text.split()) for text in texts]

    def answer(self, words: Sequence[str]) -> Answer:
        counts = np.array([words[:WINDOW].count(name) for name in LABELS.names], dtype=np.float64)
        cut = len(words) > WINDOW
        if not counts.any():
            return abstention(2, "no word that tells", len(words[:WINDOW]), cut)
        shares = counts / counts.sum()
        return Answer(shares, shares, prompt_tokens=len(words[:WINDOW]), truncated=cut, mass=1.0)


def annotator(windows: int = 4, room: int | None = None) -> OfWords:
    config = AnnotatorConfig(name="a", runtime="of words", model="m", windows=windows)
    made = OfWords(config, LABELS, "", (), Path())
    made.room = room
    return made


def test_a_text_that_fits_is_read_once() -> None:
    asked = annotator()
    (answer,) = asked.annotate(["good good poor good"])
    assert asked.asked == ["good good poor good"]
    assert (answer.truncated, answer.calls) == (False, 1)


def test_a_longer_one_is_read_in_two_parts_and_their_mean_is_the_answer() -> None:
    text = "good " * 6 + "poor " * 6
    asked = annotator()
    (answer,) = asked.annotate([text])
    np.testing.assert_allclose(answer.label_probs, [0.5, 0.5], atol=0.1)
    assert not answer.truncated
    assert (answer.calls, answer.prompt_tokens) == (3, 8 + 12)
    assert len(asked.asked) == 3
    (cut,) = annotator(windows=1).annotate([text])
    assert (cut.truncated, cut.label_probs[0]) == (True, 0.75)


def test_of_a_text_longer_than_all_windows_the_beginning_of_each_part_is_read() -> None:
    asked = annotator()
    long, short = asked.annotate(["good " * 100 + "poor " * 300, "good"])
    assert (long.truncated, short.truncated) == (True, False)
    np.testing.assert_allclose(long.label_probs, [0.25, 0.75], atol=0.05)
    assert long.calls == 1 + 2 + 4
    assert asked.asked.count("good") == 1


def test_a_part_that_cannot_be_answered_abstains_and_the_others_speak() -> None:
    (answer,) = annotator().annotate(["good " * 6 + "the " * 6])
    np.testing.assert_allclose(answer.label_probs, [1, 0])
    assert (answer.abstained, answer.votes.sum(), answer.error) == (0.5, 0.5, "")


def test_where_no_part_can_be_answered_the_first_answer_stays() -> None:
    (answer,) = annotator().annotate(["the " * 200])
    assert (answer.error, answer.abstained, answer.truncated, answer.calls) == ("no word that tells", 1, True, 7)


@pytest.mark.parametrize(
    ("words", "without", "calls"), [(8, 1, 1), (9, 3, 2), (14, 3, 2), (17, 7, 4), (28, 7, 4), (100, 7, 4)]
)
def test_no_reading_is_spent_on_what_cannot_fit_and_the_answer_is_the_same(
    words: int, without: int, calls: int
) -> None:
    text = " ".join(["good", "poor", "poor"] * 40).split()[:words]
    (tried,), (answer,) = (annotator(room=room).annotate([" ".join(text)]) for room in (None, WINDOW))
    assert (tried.calls, answer.calls) == (without, calls)
    np.testing.assert_array_equal(answer.label_probs, tried.label_probs)
    np.testing.assert_array_equal(answer.votes, tried.votes)
    assert answer.truncated == tried.truncated == (words > 4 * WINDOW)


def test_where_no_part_can_be_answered_and_the_whole_was_not_tried_the_first_part_says_why() -> None:
    (answer,) = annotator(room=WINDOW).annotate(["the " * 200])
    assert (answer.error, answer.abstained, answer.truncated, answer.calls) == ("no word that tells", 1, True, 4)


def test_a_text_without_blanks_is_tried() -> None:
    assert annotator(room=WINDOW).annotate(["good" * 100])[0].calls == 1


@pytest.mark.parametrize("windows", [1, 2, 3, 4, 8])
def test_windows_are_never_more_than_asked_for(windows: int) -> None:
    (answer,) = annotator(windows).annotate(["good " * 1000])
    assert answer.calls <= 2 * windows
    assert answer.truncated
