"""The cells of a matrix and of a heat map, with the names of their rows and columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mollm.errors import InputError
from mollm_backend.view.pictures.canvas import EM, WIDTH, Canvas, clean, shorten, width

SHADES = 10
"""So many shades are in `pictures.css`, each with an ink that can be read on it."""
WORDS = 12
"""With more rows or columns than this, cells are too small for numbers: they are in the table and in the titles."""
NAMES, UPRIGHT = (108, 150), 112
"""Units: the most that names of rows may take (with many columns, with few), and upright names of columns."""
ROOM = 40
"""Units: the width that a cell with a number would like to have."""
POINTED = 150
"""So many cells of a large grid say their numbers when pointed at: 15 KB."""
ROW = EM + 3


@dataclass(frozen=True)
class Cell:
    """`shade` from 0 to 1, None where nothing is known; an empty `text` and `title` are left out."""

    shade: float | None
    text: str
    title: str
    framed: bool = False


def check(values: Sequence[Sequence[object]], rows: Sequence[str], columns: Sequence[str]) -> None:
    """Raises InputError unless there is a value for each row and column."""
    if len(values) != len(rows) or any(len(row) != len(columns) for row in values):
        raise InputError(f"a grid of {len(rows)} rows and {len(columns)} columns needs a value for each cell")


def grid(
    canvas: Canvas, rows: Sequence[str], columns: Sequence[str], cell: Callable[[int, int], Cell],
    row_title: str, column_title: str, *, top: float = 0, square: bool = False,
) -> float:  # fmt: skip
    """Draws all cells; gives where they end. `square`: rows are as high as columns are wide, where there are many."""
    small = max(len(rows), len(columns)) > WORDS
    most = max(NAMES[0], min(NAMES[1], WIDTH - ROOM * len(columns)))
    left = min(most, max(width(clean(name)) for name in rows) + 8)
    w = min((WIDTH - 1 - left) / len(columns), 90)
    h = w if square and small else 26 if not small or len(rows) <= WORDS else ROW
    canvas.text(0, top + EM, f"{row_title} ↓  {column_title} →", "p-soft")
    top = _column_names(canvas, columns, left, w, top + ROW + 4)
    _row_names(canvas, rows, left, h, top)
    cells = [(cell(r, c), left + c * w, top + r * h) for r in range(len(rows)) for c in range(len(columns))]
    if small:
        canvas.rect(left, top, w * len(columns), h * len(rows), "p-cell-0")
        _small(canvas, cells, w, h)
    else:
        for one, x, y in cells:
            _large(canvas, one, x, y, w, h)
    return top + h * len(rows)


def _large(canvas: Canvas, one: Cell, x: float, y: float, w: float, h: float) -> None:
    if one.shade is None:
        canvas.hatch([(x + 1, y + 1)], w - 2, h - 2, "p-unknown", one.title)
    else:
        look = f"p-cell-{shade(one.shade)}{' p-framed' if one.framed else ''}"
        canvas.rect(x + 1, y + 1, w - 2, h - 2, look, one.title)
    # Where a percent does not fit with its sign, it stands without: the scale has the sign.
    text = one.text if width(one.text) <= w - 2 else one.text.removesuffix(" %")
    if text and width(text) <= w + 2:
        ink = "p-ink p-over" if one.shade is None else f"p-on-{shade(one.shade)}"
        canvas.text(x + w / 2, y + h / 2 + 4.5, text, ink, anchor="middle", room=w + 2)


def _small(canvas: Canvas, cells: Sequence[tuple[Cell, float, float]], w: float, h: float) -> None:
    """Cells of a shade are one mark, and the darkest few can be pointed at: fifty labels make 2,500 cells."""
    for k in range(SHADES):
        same = [(x + 0.2, y + 0.2) for one, x, y in cells if one.shade and shade(one.shade) == k]
        if same:
            canvas.boxes(same, w - 0.4, h - 0.4, f"p-cell-{k}")
    unknown = [(x, y) for one, x, y in cells if one.shade is None]
    if unknown:
        canvas.hatch(unknown, w, h, "p-unknown")
    framed = [(x + 0.2, y + 0.2) for one, x, y in cells if one.framed]
    if framed:
        canvas.boxes(framed, w - 0.4, h - 0.4, "p-unseen p-framed")
    for one, x, y in sorted(cells, key=lambda place: place[0].shade or 0, reverse=True)[:POINTED]:
        if one.title:
            canvas.rect(x, y, w, h, "p-unseen", one.title)


def shade(value: float | None) -> int:
    """Which of the shades: 0 for nothing at all, the last for 1."""
    return 0 if value is None else min(SHADES - 1, max(0, int(value * SHADES)))


def _row_names(canvas: Canvas, names: Sequence[str], left: float, h: float, top: float) -> None:
    every = max(1, -int(-ROW // h))
    for k in range(0, len(names), every):
        canvas.text(left - 5, top + (k + 0.5) * h + 4.5, names[k], anchor="end", room=left - 8)


def _column_names(canvas: Canvas, names: Sequence[str], left: float, w: float, top: float) -> float:
    """Lying where all fit, else upright; gives where the cells begin."""
    if all(width(clean(name)) <= w - 4 for name in names):
        for k, name in enumerate(names):
            canvas.text(left + (k + 0.5) * w, top + EM, name, anchor="middle", room=w - 4)
        return top + ROW + 3
    every = max(1, -int(-ROW // w))
    high = min(UPRIGHT, max(width(shorten(name, UPRIGHT)) for name in names))
    for k in range(0, len(names), every):
        canvas.text(left + (k + 0.5) * w + 4.5, top + high + 2, names[k], upright=True, room=high + 1)
    return top + high + 7


def scale(canvas: Canvas, low: str, high: str, what: Sequence[str], y: float) -> float:
    """What the shades mean: from `low` to `high`, and a line each of `what`; gives where it ends."""
    x = width(low) + 6
    canvas.text(0, y + EM, low, "p-soft")
    for k in range(SHADES):
        canvas.rect(x + 14 * k, y + 2, 14, EM, f"p-cell-{k}")
    canvas.text(x + 14 * SHADES + 6, y + EM, high, "p-soft")
    for k, line in enumerate(what, start=1):
        canvas.text(0, y + EM + k * ROW, line, "p-soft")
    return y + (1 + len(what)) * ROW + 4
