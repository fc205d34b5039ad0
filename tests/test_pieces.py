"""Pieces of long texts: beginnings that fit, and even parts."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mollm.pieces import parted, shortened


@given(st.text(), st.integers(1, 9))
def test_parts_hold_all_that_is_no_blank_and_are_about_even(text: str, count: int) -> None:
    parts = parted(text, count)
    assert "".join("".join(parts).split()) == "".join(text.split())
    assert len(parts) <= count
    assert all(part.strip() for part in parts)
    assert max(map(len, parts), default=0) <= len(text) / count + 41


def test_short_texts_are_kept_and_long_ones_get_one_length() -> None:
    short, long, longer = "A short text.", "word " * 100, "other words " * 1000
    first, second, third = shortened([short, longer, long], 53.25)
    assert first == short
    assert second == "other words " * 8 + "..."
    assert third == "word " * 20 + "..."
    assert shortened([short, long], 1000) == [short, long]
    assert shortened([], 10) == []


def test_letters_of_other_scripts_take_more_room_and_a_long_word_is_cut() -> None:
    chinese = "我的订单还没有到，你能告诉我它在哪里吗？"
    assert shortened([chinese], 10) == [chinese[:10] + " ..."]
    assert shortened(["x" * 100], 10) == ["x" * 40 + " ..."]
    assert shortened(["", "x" * 100], 0) == ["", " ..."]


@given(st.lists(st.text()), st.floats(0, 50))
def test_what_is_kept_is_a_beginning_and_fits(texts: list[str], tokens: float) -> None:
    kept = shortened(texts, tokens)
    spent = 0.0
    for text, left in zip(texts, kept, strict=True):
        whole = left.removesuffix(" ...") if left != text else text
        assert text.startswith(whole)
        spent += sum(0.25 if letter.isascii() else 1 for letter in whole)
    assert spent <= tokens + 1e-9
