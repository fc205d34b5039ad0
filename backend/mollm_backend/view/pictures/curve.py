"""A curve: lines with bands, points with error bars, dashed baselines; each named at its end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from mollm.errors import InputError
from mollm_backend.view.pictures.canvas import (
    EM,
    WIDTH,
    Canvas,
    Picture,
    empty,
    finite,
    interval,
    number,
    percent,
    shorten,
    ticks,
    width,
)

PLOT = 190
"""Units: the height of the part with the lines, which leaves a picture wider than high."""
ROOM = 132
"""Units: the most that names beside the lines may take, about a third of the picture."""
LINES = 8
"""So many looks are in `pictures.css`; each has its own mark as well as its colour."""
ROW = EM + 3
ALIKE = 1e-6
"""Values that differ by less, relative to their size, are one value to the eye and to the ticks' digits."""
TOP = ROW + 14
"""Units: the y axis's name stands above the plot."""


@dataclass(frozen=True)
class Series:
    """`x`, `y` of one length; `low` and `high` (all or none) are the ends of each y's interval, `n` its cases."""

    name: str
    x: list[float]
    y: list[float]
    low: list[float] | None = None
    high: list[float] | None = None
    style: Literal["line", "points", "dashed"] = "line"
    n: list[int] | None = None

    def __post_init__(self) -> None:
        if (self.low is None) != (self.high is None):
            raise InputError(f"the series {self.name!r} needs both ends of its intervals, or none")
        for name, values in (("y", self.y), ("low", self.low), ("high", self.high), ("n", self.n)):
            if values is not None and len(values) != len(self.x):
                raise InputError(f"the series {self.name!r} has {len(self.x)} x and {len(values)} {name}")
        for name, given in (("x", self.x), ("y", self.y), ("low", self.low or []), ("high", self.high or [])):
            finite(f"{name} of {self.name!r}", given)
        if any(low > high for low, high in zip(self.low or [], self.high or [], strict=True)):
            raise InputError(f"the series {self.name!r} has an interval whose low end is above its high end")


@dataclass(frozen=True)
class _Scale:
    """From data to units."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)


def curve(
    series: Sequence[Series], *, x: str, y: str, caption: str, y_range: tuple[float, float] | None = (0, 1),
    percent: bool = True, x_percent: bool = False,
) -> Picture:  # fmt: skip
    """`x`, `y`: what the axes show. `y_range` grows where data lies outside; None: from the data.

    `percent`, `x_percent`: y, x are shares, and shown as percents.
    """
    show_y, show_x = _shower(percent), _shower(x_percent)
    columns, rows = _table(series, x, y, show_x, show_y)
    if not rows:
        return empty(columns, caption)
    used = [one for one in series if one.x]
    names = [shorten(one.name, ROOM - 18) for one in used] if len(used) > 1 else []
    beside = len(names) * ROW <= PLOT
    last = width(show_x(max(v for one in used for v in one.x))) / 2
    right = max([width(name) + 18 for name in names if beside] + [last])
    span = _span([v for one in used for v in (*one.y, *(one.low or []), *(one.high or []))], y_range)
    marks = ticks(*span, 5)
    left = max(width(_tick(mark, percent)) for mark in marks) + 6
    across = [v for one in used for v in one.x]
    to_x = _Scale(*_span(across, None), left + 5, WIDTH - right - 5)
    to_y = _Scale(*span, TOP + PLOT, TOP)
    canvas = Canvas()
    canvas.text(0, EM - 1, y, "p-soft")
    for mark in marks:
        canvas.line(left, to_y(mark), WIDTH - right, to_y(mark), "p-grid")
        canvas.text(left - 5, to_y(mark) + 4.5, _tick(mark, percent), "p-soft", anchor="end")
    _x_axis(canvas, to_x, across, x_percent, x, (left, WIDTH - right), to_y(span[0]))
    for place, one in enumerate(used):
        _draw(canvas, one, place % LINES + 1, to_x, to_y, show_x, show_y)
    height: float = TOP + PLOT + 2 * ROW + 6
    if beside:
        _names(canvas, used, names, WIDTH - right + 4, to_y)
    else:
        height = _legend(canvas, used, height)
    return Picture(canvas.svg(height, caption), columns, rows, caption)


def _shower(as_percent: bool) -> Callable[[float], str]:
    return percent if as_percent else number


def _tick(value: float, as_percent: bool) -> str:
    """Short: an axis has little room."""
    if as_percent:
        return f"{100 * value:g} %"
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= size:
            return f"{value / (1e3 if letter == 'k' else size):g} {letter}"
    return f"{value:,g}"


def _table(
    series: Sequence[Series], x: str, y: str, show_x: Callable[[float], str], show_y: Callable[[float], str]
) -> tuple[list[str], list[list[str]]]:
    with_interval, with_n = any(one.low for one in series), any(one.n for one in series)
    columns = ["line", x, y, *(["interval"] if with_interval else []), *(["n"] if with_n else [])]
    rows = []
    for one in series:
        for k, (at, value) in enumerate(zip(one.x, one.y, strict=True)):
            row = [one.name, show_x(at), show_y(value)]
            if with_interval:
                row.append(interval(one.low[k], one.high[k], show_y) if one.low and one.high else "-")
            if with_n:
                row.append(number(one.n[k]) if one.n else "-")
            rows.append(row)
    return columns, rows


def _span(values: Sequence[float], given: tuple[float, float] | None) -> tuple[float, float]:
    """The ends of an axis; a single value is put in the middle."""
    ends = [*values, *(given or ())]
    low, high = min(ends), max(ends)
    if high - low > ALIKE * max(abs(low), abs(high), ALIKE):
        return low, high
    around = max(abs(low) / 2, ALIKE) if low else 1.0
    return low - around, high + around


def _x_axis(
    canvas: Canvas, to_x: _Scale, values: Sequence[float], as_percent: bool, name: str, ends: tuple[float, float],
    base: float,
) -> None:  # fmt: skip
    canvas.line(ends[0], base, ends[1], base, "p-axis")
    whole = not as_percent and all(float(value).is_integer() for value in values)
    one = sorted(set(values))
    marks = one if len(one) == 1 else ticks(to_x.low, to_x.high, 5, whole=whole)
    room = max(width(_tick(mark, as_percent)) for mark in marks) + 10
    every = next(k for k in range(1, len(marks) + 1) if k * (ends[1] - ends[0]) >= room * (len(marks) - 1))
    for mark in marks[::every]:
        canvas.line(to_x(mark), base, to_x(mark), base + 4, "p-axis")
        canvas.text(to_x(mark), base + EM + 4, _tick(mark, as_percent), "p-soft", anchor="middle")
    canvas.text(ends[1], base + 2 * ROW + 1, name, "p-soft", anchor="end", room=ends[1])


def _draw(
    canvas: Canvas, one: Series, look: int, to_x: _Scale, to_y: _Scale,
    show_x: Callable[[float], str], show_y: Callable[[float], str],
) -> None:  # fmt: skip
    order = sorted(range(len(one.x)), key=one.x.__getitem__)
    points = [(to_x(one.x[k]), to_y(one.y[k])) for k in order]
    if one.style == "dashed" and len(points) == 1:  # a baseline holds everywhere, also where it has one value
        points = [(to_x.start, points[0][1]), (to_x.end, points[0][1])]
    joined = one.style != "points" and len(points) > 1
    if one.low and one.high:
        if joined:
            upper = [(to_x(one.x[k]), to_y(one.high[k])) for k in order]
            lower = [(to_x(one.x[k]), to_y(one.low[k])) for k in order]
            canvas.shape([*upper, *reversed(lower)], f"p-band p-fill-{look}")
        else:
            for k in order:
                canvas.line(
                    to_x(one.x[k]), to_y(one.low[k]), to_x(one.x[k]), to_y(one.high[k]), f"p-error p-line-{look}"
                )
    if joined:
        canvas.path(points, f"p-line p-line-{look}{' p-dashed' if one.style == 'dashed' else ''}")
    for k, (at, height) in zip(order, points, strict=False):
        title = f"{one.name}: {show_y(one.y[k])} at {show_x(one.x[k])}"
        title += f", interval {interval(one.low[k], one.high[k], show_y)}" if one.low and one.high else ""
        title += f", n {number(one.n[k])}" if one.n else ""
        mark(canvas, at, height, look, title, faint=one.style == "dashed")


def mark(canvas: Canvas, x: float, y: float, look: int, title: object = None, *, faint: bool = False) -> None:
    """A point whose form tells the line as well as its colour does; `faint`: only there to be pointed at."""
    if faint:
        canvas.circle(x, y, 4, "p-unseen", title)
    elif look % 4 == 1:
        canvas.circle(x, y, 3, f"p-fill-{look}", title)
    elif look % 4 == 2:
        canvas.rect(x - 2.8, y - 2.8, 5.6, 5.6, f"p-fill-{look}", title)
    elif look % 4 == 3:
        canvas.shape(((x, y - 3.8), (x + 3.6, y + 2.6), (x - 3.6, y + 2.6)), f"p-fill-{look}", title)
    else:
        canvas.shape(((x, y - 4.2), (x + 4.2, y), (x, y + 4.2), (x - 4.2, y)), f"p-fill-{look}", title)


def _names(canvas: Canvas, used: Sequence[Series], names: Sequence[str], x: float, to_y: _Scale) -> None:
    """Each name beside the end of its line, moved apart where they would touch."""
    ends = [to_y(one.y[max(range(len(one.x)), key=one.x.__getitem__)]) for one in used] if names else []
    order = sorted(range(len(ends)), key=ends.__getitem__)
    places = dict(zip(order, apart([ends[k] for k in order], to_y.end + 2, to_y.start - 2), strict=True))
    for k, one in enumerate(used[: len(ends)]):
        _key(canvas, one, k, x, places[k])
        canvas.text(x + 14, places[k] + 4.5, one.name, room=ROOM - 18)


def _key(canvas: Canvas, one: Series, place: int, x: float, y: float) -> None:
    look = place % LINES + 1
    if one.style == "dashed":
        canvas.line(x, y, x + 11, y, f"p-line p-line-{look} p-dashed")
    else:
        mark(canvas, x + 5, y, look)


def apart(wanted: Sequence[float], low: float, high: float) -> list[float]:
    """Places near the `wanted` ones (which ascend), a row of text apart, between `low` and `high`."""
    places: list[float] = []
    for value in wanted:
        places.append(max(value, low if not places else places[-1] + ROW))
    limit = high
    for k in reversed(range(len(places))):
        places[k] = min(places[k], limit)
        limit = places[k] - ROW
    return places


def _legend(canvas: Canvas, used: Sequence[Series], top: float) -> float:
    """All names under the picture, where there are more than fit beside it; gives the new height."""
    for k, one in enumerate(used):
        x, y = k % 2 * WIDTH / 2, top + k // 2 * ROW + ROW / 2
        _key(canvas, one, k, x, y)
        canvas.text(x + 14, y + 4.5, one.name, room=WIDTH / 2 - 20)
    return top + (len(used) + 1) // 2 * ROW + 4
