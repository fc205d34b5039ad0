"""Numbers with few digits, round ticks, and text that fits."""

from __future__ import annotations

import pytest

from mollm_backend.view.pictures.canvas import clean, interval, number, percent, shorten, ticks, width


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0, "0 %"), (1, "100 %"), (0.95, "95 %"), (0.9534, "95.3 %"), (0.99999, "> 99.9 %"), (1e-9, "< 0.1 %"),
        (1.5, "150 %"), (0.0009, "0.1 %"),
    ],
)  # fmt: skip
def test_percents(share: float, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize(("value", "text"), [(12, "12"), (1234567, "1,234,567"), (0.123456, "0.123"), (98.76, "98.8")])
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_intervals_name_the_unit_once() -> None:
    assert interval(0.71, 0.84) == "71 to 84 %"
    assert interval(3, 12, number) == "3 to 12"


@pytest.mark.parametrize(
    ("low", "high", "whole", "found"),
    [
        (0, 1, False, [0, 0.2, 0.4, 0.6, 0.8, 1]),
        (0.8, 1, False, [0.8, 0.85, 0.9, 0.95, 1]),
        (0, 2, True, [0, 1, 2]),
        (3, 98_000, False, [20_000, 40_000, 60_000, 80_000]),
    ],
)
def test_ticks_are_round(low: float, high: float, whole: bool, found: list[float]) -> None:
    assert ticks(low, high, whole=whole) == found


@pytest.mark.parametrize("text", ["a long name of a label", "W" * 300, "漢字" * 40, "e\u0301" * 90, "👩‍👩‍👧" * 30])
def test_text_is_cut_where_it_would_not_fit(text: str) -> None:
    short = shorten(text, 80)
    assert short.endswith("…")
    assert width(short) <= 80
    assert clean(text).startswith(short.removesuffix("…"))


def test_text_that_fits_is_left_as_it_is() -> None:
    assert shorten("spam", 80) == "spam"


def test_control_characters_and_marks_that_turn_text_are_dropped() -> None:
    assert clean("a\x00b\n c\u202ed\ud800") == "a b cd"
