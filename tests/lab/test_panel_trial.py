"""A panel on trial: what is counted, and what is called odd."""

from __future__ import annotations

import numpy as np
import pytest

from mollm.annotators import Answer, abstention
from mollm.lab.panel_trial import Trial, judge
from mollm.records import LabelSet

LABELS = LabelSet(("sports", "money", "science"))
GOLD = ("sports", "money", "science", "sports", "money", None)


def says(*places: int, sure: float = 0.9, **more: float) -> list[Answer]:
    rows = np.full((len(places), 3), (1 - sure) / 2)
    rows[np.arange(len(places)), places] = sure
    return [Answer(row, row, prompt_tokens=100, completion_tokens=1, **more) for row in rows]  # type: ignore[arg-type]


def tried(answers: list[Answer], *others: list[Answer], gold: tuple[str | None, ...] = GOLD) -> Trial:
    given = {f"m{n}": (one, 2.0) for n, one in enumerate((answers, *others))}
    return judge(given, LABELS, gold)[0]


def test_what_is_counted() -> None:
    one = tried(says(0, 1, 2, 0, 0, 1), says(0, 1, 2, 1, 1, 1), says(0, 1, 2, 0, 1, 2))
    assert (one.texts, one.seconds, one.tokens, one.abstained) == (6, 2.0, 101.0, 0)
    assert (one.right, one.known) == (4, 5)
    assert one.agreement == pytest.approx(np.mean([1, 1, 1, 0, 0, 1, 1, 1, 1, 1, 0, 0]))
    assert one.odd == ()


def test_alone_and_without_gold_nothing_is_made_up() -> None:
    one = tried(says(0, 1, 2, 0, 1, 2), gold=(None,) * 6)
    assert np.isnan(one.agreement)
    assert (one.right, one.known) == (0, 0)


def test_a_member_that_always_says_the_same_is_odd_unless_people_do() -> None:
    same = says(1, 1, 1, 1, 1, 1)
    assert tried(same).odd == ("says 'money' of 6 of 6 texts", "its answers hardly depend on the text (spread 0.00)")
    assert not any("says" in line for line in tried(same, gold=("money",) * 6).odd)


def test_answers_that_hardly_depend_on_the_text() -> None:
    assert any("hardly depend" in line for line in tried(says(0, 1, 2, 0, 1, 2, sure=0.35)).odd)
    assert tried(says(0, 1, 2, 0, 1, 2, sure=0.5)).odd == ()


def test_abstentions_are_counted_with_their_reason() -> None:
    silent = [abstention(3, "it thinks.") for _ in range(4)]
    one = tried(says(0, 1) + silent, says(0, 1, 2, 0, 1, 2))
    assert (one.abstained, one.right, one.agreement) == (4, 2, 1.0)
    assert one.odd == ("no answer to 4 of 6: it thinks",)
    assert np.isnan(tried([abstention(3, "no") for _ in range(6)]).spread)


def test_a_small_llm_s_little_mass_is_nothing_odd() -> None:
    assert tried(says(0, 1, 2, 0, 1, 2, mass=0.01)).odd == ()


def test_a_model_that_would_rather_say_something_else_and_cut_texts() -> None:
    found = tried(says(0, 1, 2, 0, 1, 2, mass=0.0002, truncated=True)).odd
    assert found == (
        "6 of 6 texts did not fit into its windows and were read only in part",
        "would rather say something else (all labels together have 0.02%)",
    )
