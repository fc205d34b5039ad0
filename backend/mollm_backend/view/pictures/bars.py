"""One stacked bar: the parts of a whole, each named in a row of its own below."""

from __future__ import annotations

from collections.abc import Sequence

from mollm.errors import InputError
from mollm_backend.view.pictures.canvas import EM, WIDTH, Canvas, Picture, empty, finite, number, percent, width

HIGH = 26
"""Units: the bar."""
ROW = EM + 5
SHARE, NUMBER = 66, 74
"""Units: the columns of shares ("< 0.1 %") and of numbers ("1,000,000")."""
PARTS = 8
"""So many looks are in `pictures.css`."""


def bars(parts: Sequence[tuple[str, float]], *, caption: str, total: float | None = None) -> Picture:
    """`parts`: name and amount, in order. `total`: what the whole bar is; None: their sum."""
    finite("a bar", [amount for _name, amount in parts] + ([] if total is None else [total]))
    if any(amount < 0 for _name, amount in parts):
        raise InputError("a bar is made of amounts of zero and more")
    whole = sum(amount for _name, amount in parts)
    if total is not None and whole > total * (1 + 1e-9):
        raise InputError(f"the parts of a bar make {number(whole)}, more than its total of {number(total)}")
    of = whole if total is None else total
    head = ["part", "number", f"share of {number(of)}"]
    if not of:
        return empty(head, caption)
    rows = [[name, number(amount), percent(amount / of)] for name, amount in parts]
    canvas = Canvas()
    canvas.rect(0, 0, WIDTH, HIGH, "p-rest")
    x = 0.0
    for k, (name, amount) in enumerate(parts):
        w = amount / of * WIDTH
        if amount:
            look = f"p-fill-{k % PARTS + 1}"
            canvas.rect(x, 0, max(w - 1, 1), HIGH, look, f"{name}: {rows[k][1]}, {rows[k][2]}")
            if width(rows[k][1]) + 8 <= w:
                canvas.text(x + w / 2, HIGH / 2 + 4.5, rows[k][1], "p-on-part", anchor="middle")
        x += w
    for k, (name, shown, share) in enumerate(rows):
        y = HIGH + 8 + k * ROW
        canvas.rect(0, y + 2, EM - 2, EM - 2, f"p-fill-{k % PARTS + 1}")
        canvas.text(ROW, y + EM - 1, name, room=WIDTH - ROW - SHARE - NUMBER - 6)
        canvas.text(WIDTH - SHARE, y + EM - 1, shown, anchor="end")
        canvas.text(WIDTH, y + EM - 1, share, "p-soft", anchor="end")
    return Picture(canvas.svg(HIGH + 10 + len(rows) * ROW, caption), head, rows, caption)
