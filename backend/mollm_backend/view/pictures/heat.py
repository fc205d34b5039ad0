"""A heat map: one share for each row and column, such as how often each LLM is right on each label."""

from __future__ import annotations

from collections.abc import Sequence

from mollm_backend.view.pictures.canvas import Canvas, Picture, empty, finite, number, percent
from mollm_backend.view.pictures.grid import Cell, check, grid, scale

LEAST_SPAN = 0.2
"""Shares that differ by less than this keep shades that differ little."""
UNKNOWN = "-"


def heat(
    values: Sequence[Sequence[float | None]], n: Sequence[Sequence[int]], rows: Sequence[str], columns: Sequence[str],
    *, caption: str, low: float | None = None, high: float | None = None,
    row_title: str = "who", column_title: str = "label",
) -> Picture:  # fmt: skip
    """`values`, `n` (rows, columns): shares, None where unknown, and their cases. `low`, `high`: palest and darkest.

    Without `low` and `high` the shades go from the lowest to the highest value.
    """
    check(values, rows, columns)
    check(n, rows, columns)
    known = [value for row in values for value in row if value is not None]
    finite("a heat map", known)
    head = [row_title, *columns]
    table = [
        [name, *(_told(value, cases) for value, cases in zip(row, cases_of, strict=True))]
        for name, row, cases_of in zip(rows, values, n, strict=True)
    ]
    if not known:
        return empty(head, caption)
    bottom, top = _ends(known, low, high)

    def cell(r: int, c: int) -> Cell:
        value = values[r][c]
        title = f"{rows[r]}, {columns[c]}: {_told(value, n[r][c])}"
        if value is None:
            return Cell(None, UNKNOWN, title)
        return Cell((value - bottom) / (top - bottom), _short(value), title)

    canvas = Canvas()
    end = grid(canvas, rows, columns, cell, row_title, column_title)
    end = scale(canvas, percent(bottom), percent(top), ["hatched: not known"], end + 6)
    return Picture(canvas.svg(end, caption), head, table, caption)


def _told(value: float | None, n: int) -> str:
    return f"{UNKNOWN if value is None else percent(value)} (n {number(n)})"


def _short(value: float) -> str:
    """Whole percents, 0 and 100 only for what is exactly that; the title and the table say more."""
    return f"{round(100 * value) if value in (0, 1) else min(99, max(1, round(100 * value)))} %"


def _ends(known: Sequence[float], low: float | None, high: float | None) -> tuple[float, float]:
    top = max(known) if high is None else high
    bottom = min(known) if low is None else low
    if top - bottom >= LEAST_SPAN:
        return bottom, top
    if low is None:
        return max(0.0, top - LEAST_SPAN) if high is not None or top >= LEAST_SPAN else 0.0, max(top, LEAST_SPAN)
    return low, max(top, low + LEAST_SPAN)
