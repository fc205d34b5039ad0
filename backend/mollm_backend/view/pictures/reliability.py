"""Reliability: how often answers of a confidence are right. On the diagonal, 80 % sure means right 80 times of 100."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mollm.errors import InputError
from mollm_backend.view.pictures.canvas import EM, WIDTH, Canvas, Picture, empty, finite, interval, number, percent

LEFT, TOP, SIDE = 48, 30, 280
"""Units: a square plot, so that the diagonal is one."""
SMALL, LARGE = 3.0, 9.0
"""Units: the radius of a point with few cases and of the one with the most; the area grows with n."""
COLUMNS = ["confidence", "right", "interval", "n"]


@dataclass(frozen=True)
class Bin:
    """Answers of about one confidence: the share that is right, its interval, and how many they are."""

    confidence: float
    right: float
    low: float
    high: float
    n: int

    def __post_init__(self) -> None:
        shares = (self.confidence, self.right, self.low, self.high)
        finite("a bin", shares)
        if not all(-1e-9 <= share <= 1 + 1e-9 for share in shares) or self.low > self.high or self.n < 0:
            raise InputError(f"a bin holds shares from 0 to 1, low before high, and n of 0 or more, not {self}")


def reliability(bins: Sequence[Bin], *, caption: str) -> Picture:
    """A point a bin with its interval, beside the diagonal; a larger point stands for more answers."""
    rows = [[percent(b.confidence), percent(b.right), interval(b.low, b.high), number(b.n)] for b in bins]
    if not rows:
        return empty(COLUMNS, caption)
    canvas = Canvas()
    bottom, most = TOP + SIDE, max(b.n for b in bins) or 1
    canvas.text(0, EM - 1, "right", "p-soft")
    for share in (0, 0.2, 0.4, 0.6, 0.8, 1):
        x, y = LEFT + share * SIDE, bottom - share * SIDE
        canvas.line(LEFT, y, LEFT + SIDE, y, "p-grid")
        canvas.text(LEFT - 5, y + 4.5, f"{share:.0%}".replace("%", " %"), "p-soft", anchor="end")
        canvas.line(x, bottom, x, bottom + 4, "p-axis")
        canvas.text(
            x, bottom + EM + 4, f"{share:.0%}".replace("%", " %"), "p-soft", anchor="middle" if share else "start"
        )
    canvas.line(LEFT, bottom, LEFT + SIDE, bottom, "p-axis")
    canvas.line(LEFT, bottom, LEFT + SIDE, TOP, "p-line p-dashed p-diagonal")
    canvas.text(LEFT + 8, TOP + EM + 4, "more often right than sure", "p-soft")
    canvas.text(LEFT + SIDE - 8, bottom - 8, "more sure than right", "p-soft", anchor="end")
    canvas.text(LEFT + SIDE, bottom + 2 * EM + 8, "confidence (a larger point: more answers)", "p-soft", anchor="end")
    for one, (sure, right, ends, n) in zip(bins, rows, strict=True):
        x = LEFT + one.confidence * SIDE
        canvas.line(x, bottom - one.low * SIDE, x, bottom - one.high * SIDE, "p-error p-line-1")
        title = f"{sure} sure: {right} right, interval {ends}, n {n}"
        canvas.circle(
            x, bottom - one.right * SIDE, SMALL + (LARGE - SMALL) * (one.n / most) ** 0.5, "p-dot p-fill-1", title
        )
    assert LEFT + SIDE <= WIDTH
    return Picture(canvas.svg(bottom + 2 * EM + 14, caption), COLUMNS, rows, caption)
