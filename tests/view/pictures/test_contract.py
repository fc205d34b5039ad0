"""Every picture keeps the same promises: valid, escaped, without inline style, and the same numbers as its table."""

from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mollm_backend.view as view
from mollm.errors import InputError
from mollm_backend.view.pictures import Bin, Picture, Series, bars, curve, heat, matrix, reliability

PAYLOADS = [
    "<script>window.ran = 1</script>",
    "\"><img src=x onerror='window.ran=1'>",
    "</title></svg><svg onload=alert(1)>",
    "javascript:alert(1)",
    "{{ 7 * 7 }} & <!-- ]]>",
    "\x00\x07\ud800\ufffe a control",
    "\u202eevil\u2066",
    "שלום עולם, זה שם ארוך מאוד של תווית",
    "👩‍👩‍👧‍👦 🎉 a family",
    "é" * 300,
]
SVG = "{http://www.w3.org/2000/svg}"
CSS = (Path(view.__file__).parent / "static" / "pictures.css").read_text()
VALUES = [0.25, 0.5, 0.8125, 0.9]


def a_curve(names: Sequence[str] = ("mixture",), y: Sequence[float] = VALUES) -> Picture:
    x = [float(10 * k) for k in range(len(y))]
    low, high = [v - 0.1 for v in y], [v + 0.05 for v in y]
    series = [Series(name, x, list(y), low, high, n=[7 * k + 30 for k in range(len(y))]) for name in names]
    return curve(series, x="labels", y="right", caption="Accuracy")


def a_dashed(names: Sequence[str] = ("random",), y: Sequence[float] = VALUES) -> Picture:
    series = [Series(name, [float(k) for k in range(len(y))], list(y), style="dashed") for name in names]
    return curve(series, x="day", y="tokens", caption="Cost", percent=False, y_range=None)


def some_points(names: Sequence[str] = ("estimate",), y: Sequence[float] = VALUES) -> Picture:
    at = [k / 8 for k in range(len(y))]
    series = [Series(name, at, list(y), [v / 2 for v in y], [v + 0.01 for v in y], style="points") for name in names]
    return curve(series, x="share", y="right", caption="Acceptance", x_percent=True)


def a_reliability(_names: Sequence[str] = (), y: Sequence[float] = VALUES) -> Picture:
    return reliability([Bin(v, v * 0.9, v * 0.8, v, 10 * k + 1) for k, v in enumerate(y)], caption="Reliability")


def a_matrix(names: Sequence[str] = ("spam", "ham"), y: Sequence[float] = VALUES) -> Picture:
    counts = [[y[(r + c) % len(y)] * 8 for c in range(len(names))] for r in range(len(names))] if y else []
    kept = list(names) if y else []
    return matrix(counts, kept, kept, caption="Confusion", row_title="people said", column_title="mixture said")


def a_heat(names: Sequence[str] = ("an LLM", "a person"), y: Sequence[float] = VALUES) -> Picture:
    n = [[9 + k] * len(y) for k in range(len(names))]
    columns = [f"{name} {k}" for k, name in zip(range(len(y)), list(names) * len(y), strict=False)]
    return heat([list(y) for _ in names], n, names, columns, caption="By label")


def some_bars(names: Sequence[str] = ("labelled", "open"), y: Sequence[float] = VALUES) -> Picture:
    return bars([(name, 100 * y[k % len(y)]) for k, name in enumerate(names)] if y else [], caption="Progress")


ALL: dict[str, Callable[..., Picture]] = {
    maker.__name__: maker for maker in (a_curve, a_dashed, some_points, a_reliability, a_matrix, a_heat, some_bars)
}
each = pytest.mark.parametrize("maker", ALL.values(), ids=ALL)


def words(picture: Picture) -> str:
    return " ".join(ET.fromstring(picture.svg).itertext())


def check(picture: Picture) -> None:
    """What holds for each picture, whatever it shows."""
    root = ET.fromstring(picture.svg)
    assert root.get("role") == "img"
    assert root.get("aria-label", "").startswith(picture.caption)
    assert root.get("width") == "100%"
    left, top, width, height = map(float, str(root.get("viewBox")).split())
    assert (left, top, width) == (0, 0, 360)
    for mark in root.iter():
        tag = mark.tag.removeprefix(SVG)
        assert tag in {"svg", "text", "title", "line", "rect", "circle", "path"}
        allowed = {"class", "x", "y", "x1", "x2", "y1", "y2", "width", "height", "cx", "cy", "r", "d", "transform"}
        assert set(mark.keys()) <= allowed | {"text-anchor", "role", "aria-label", "viewBox"}
        for look in mark.get("class", "").split():
            assert f".{look}" in CSS, f"no rule for {look}"
        for key in ("x", "x1", "x2", "cx"):
            assert -1 <= float(mark.get(key, 0)) <= width + 1
        for key in ("y", "y1", "y2", "cy"):
            assert -1 <= float(mark.get(key, 0)) <= height + 1
    assert all(len(row) == len(picture.columns) for row in picture.rows)


@each
def test_the_table_says_what_the_picture_says(maker: Callable[..., Picture]) -> None:
    picture = maker()
    check(picture)
    assert picture.rows
    shown = words(picture)
    for row in picture.rows:
        for cell in row:
            value = re.sub(r" \(n .*", "", cell)
            assert cell == "-" or value in shown


@each
@pytest.mark.parametrize("payload", PAYLOADS, ids=range(len(PAYLOADS)))
def test_a_hostile_name_is_only_text(maker: Callable[..., Picture], payload: str) -> None:
    picture = maker((payload, "other"))
    check(picture)
    assert "<script" not in picture.svg
    assert "onerror='" not in picture.svg
    assert "<img" not in picture.svg


@each
def test_nothing_is_said_in_words(maker: Callable[..., Picture]) -> None:
    picture = maker(y=[])
    check(picture)
    assert picture.rows == []
    assert "Nothing to show yet" in words(picture)


@each
@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_one_value(maker: Callable[..., Picture], value: float) -> None:
    check(maker(y=[value]))


@each
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_what_is_no_number_is_refused(maker: Callable[..., Picture], value: float) -> None:
    with pytest.raises(InputError):
        maker(y=[0.5, value])


@each
def test_many_names(maker: Callable[..., Picture]) -> None:
    picture = maker([f"a label with a name that is long {k}" for k in range(50)])
    check(picture)
    assert len(picture.svg) < 120_000


@given(
    st.lists(st.tuples(st.floats(-1e9, 1e9), st.floats(-1e9, 1e9)), min_size=1, max_size=5),
    st.booleans(),
    st.booleans(),
)
def test_a_curve_of_any_numbers(points: list[tuple[float, float]], percent: bool, grown: bool) -> None:
    line = Series("line", [x for x, _y in points], [y for _x, y in points])
    check(curve([line], x="x", y="y", caption="c", percent=percent, y_range=(0, 1) if grown else None))


def test_shares_are_never_rounded_to_certainty() -> None:
    picture = bars([("read", 99_999), ("open", 1)], caption="Progress")
    assert [row[2] for row in picture.rows] == ["> 99.9 %", "< 0.1 %"]


def test_names_at_the_ends_of_lines_do_not_touch() -> None:
    ends = [Series(f"line {k}", [0, 1], [0, 0.9], style="line") for k in range(6)]
    root = ET.fromstring(curve(ends, x="x", y="y", caption="c").svg)
    heights = sorted(
        float(mark.get("y", 0)) for mark in root.iter(f"{SVG}text") if (mark.text or "").startswith("line")
    )
    assert min(b - a for a, b in itertools.pairwise(heights)) >= 13


def test_a_baseline_of_one_value_is_a_line() -> None:
    random = Series("random", [3], [0.2], style="dashed")
    picture = curve([Series("mixture", [1, 5], [0.4, 0.9]), random], x="x", y="y", caption="c")
    check(picture)
    dashed = [mark for mark in ET.fromstring(picture.svg).iter(f"{SVG}path") if "p-dashed" in mark.get("class", "")]
    assert len(dashed) == 1


def test_unknown_cells_are_hatched_and_counted() -> None:
    picture = heat([[0.9, None]], [[12, 0]], ["an LLM"], ["spam", "ham"], caption="By label")
    check(picture)
    assert picture.rows == [["an LLM", "90 % (n 12)", "- (n 0)"]]
    assert 'class="p-unknown"' in picture.svg


def test_cells_of_agreement_are_framed() -> None:
    picture = matrix([[3, 1], [0, 0]], ["a", "b"], ["a", "b"], caption="c", row_title="r", column_title="c")
    check(picture)
    assert picture.svg.count("p-framed") == 2
    assert picture.rows == [["a", "3", "1", "4"], ["b", "0", "0", "0"]]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Series("a", [1], [1, 2]),
        lambda: Series("a", [1], [1], low=[0]),
        lambda: Series("a", [1], [1], low=[0.9], high=[0.1]),
        lambda: Series("a", [1], [1], n=[]),
        lambda: Bin(0.5, 1.5, 0, 1, 3),
        lambda: matrix([[1]], ["a"], ["a", "b"], caption="", row_title="", column_title=""),
        lambda: matrix([[-1]], ["a"], ["a"], caption="", row_title="", column_title=""),
        lambda: heat([[1]], [[]], ["a"], ["a"], caption=""),
        lambda: bars([("a", -1)], caption=""),
        lambda: bars([("a", 3)], caption="", total=2),
    ],
)
def test_what_does_not_fit_together_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(InputError):
        wrong()


def themes() -> dict[str, dict[str, str]]:
    light, dark = (
        dict(re.findall(r"--(p-[\w-]+): (#\w+)", part)) for part in re.findall(r":root \{(.*?)\}", CSS, re.S)
    )
    return {"light": light, "dark": dark}


def contrast(one: str, other: str) -> float:
    """WCAG 2.2, "contrast ratio"."""

    def light(colour: str) -> float:
        digits = "".join(2 * c for c in colour[1:]) if len(colour) == 4 else colour[1:]
        parts = [int(digits[k : k + 2], 16) / 255 for k in (0, 2, 4)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    high, low = sorted((light(one), light(other)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize(("theme", "deep_from"), [("light", 7), ("dark", 6)])
def test_text_can_be_read_on_every_shade(theme: str, deep_from: int) -> None:
    colour = themes()[theme]
    for k in range(10):
        ink = colour["p-on-deep" if k >= deep_from else "p-on-pale"]
        assert contrast(colour[f"p-cell-{k}"], ink) >= 4.5
    for k in range(1, 9):
        assert contrast(colour[f"p-{k}"], colour["p-on-deep"]) >= 4.5
        assert contrast(colour[f"p-{k}"], colour["p-paper"]) >= 3
    for name in ("p-ink", "p-soft"):
        assert contrast(colour[name], colour["p-paper"]) >= 4.5


def test_the_contrast_of_black_on_white_is_21() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21)
