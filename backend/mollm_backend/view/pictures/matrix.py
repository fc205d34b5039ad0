"""A confusion matrix: how often the answer of each column was given where the row's was right."""

from __future__ import annotations

from collections.abc import Sequence

from mollm.errors import InputError
from mollm_backend.view.pictures.canvas import Canvas, Picture, empty, finite, number, percent
from mollm_backend.view.pictures.grid import Cell, check, grid, scale


def matrix(
    counts: Sequence[Sequence[float]], rows: Sequence[str], columns: Sequence[str], *, caption: str, row_title: str,
    column_title: str,
) -> Picture:  # fmt: skip
    """`counts` (rows, columns). A cell is as dark as its share of its row; cells of agreement are framed."""
    check(counts, rows, columns)
    for row in counts:
        finite("a matrix", row)
        if any(count < 0 for count in row):
            raise InputError("a matrix holds counts, and one of them is below zero")
    head = [f"{row_title} / {column_title}", *columns, "n"]
    totals = [sum(row) for row in counts]
    table = [[name, *map(_count, row), _count(n)] for name, row, n in zip(rows, counts, totals, strict=True)]
    if not sum(totals):
        return empty(head, caption)

    def cell(r: int, c: int) -> Cell:
        count, n = counts[r][c], totals[r]
        share = count / n if n else 0.0
        title = f"{rows[r]} → {columns[c]}: {_count(count)} of {_count(n)} ({percent(share)})" if count else ""
        return Cell(share, _count(count), title, framed=rows[r] == columns[c])

    canvas = Canvas()
    end = grid(canvas, rows, columns, cell, row_title, column_title, square=True)
    end = scale(canvas, "0 %", "100 % of the row", ["framed: both are the same"], end + 6)
    return Picture(canvas.svg(end, caption), head, table, caption)


def _count(value: float) -> str:
    """Counts of weighted labels have one digit after the point."""
    return number(value) if float(value).is_integer() else f"{value:,.1f}"
