"""What every picture is drawn with: marks, text that fits, round ticks, and numbers with few digits."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

from mollm.errors import InputError

WIDTH = 360
"""Units. A card on a screen of 390 px leaves about 330 px: text of 13 units is then 12 px high."""
EM = 13
"""Units: the height of text, as `pictures.css` sets it."""
EMPTY = "Nothing to show yet."

# Widths in ems of wide common letters (DejaVu Sans), so that text fits in narrower ones as well.
_NARROW, _WIDE = frozenset("iljtfrI.,:;'|!()[] "), frozenset("mwMWOQGDN@%&<>+=~_…→↓")
# Marks that steer the direction of text: one of them in a name would turn what is written after it.
_STEERING = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
_JOINERS = "\u200d\ufe0e\ufe0f"


@dataclass(frozen=True)
class Picture:
    """A picture, and the same numbers as a table: `rows` hold one text for each of `columns`."""

    svg: Markup
    columns: list[str]
    rows: list[list[str]]
    caption: str


def finite(name: str, values: Iterable[float]) -> None:
    """Raises InputError for NaN and infinite numbers, which no picture can show."""
    if not all(math.isfinite(value) for value in values):
        raise InputError(f"a picture needs finite numbers, and {name} holds one that is not: leave it out")


def number(value: float) -> str:
    """Whole numbers in full, others with three digits."""
    if float(value).is_integer() or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) >= 0.001 else f"{value:.1g}"


def percent(share: float) -> str:
    """At most one digit after the point, and none for whole percents; never 100 % or 0 % for what is not quite that."""
    text = f"{100 * share:.1f}"
    if (text == "100.0" and share < 1) or (text == "0.0" and share > 0):
        return "> 99.9 %" if share > 0.5 else "< 0.1 %"
    return f"{text.removesuffix('.0')} %"


def interval(low: float, high: float, show: Callable[[float], str] = percent) -> str:
    """ "71 to 84 %" for shares, "3 to 12" for numbers."""
    left, right = show(low), show(high)
    return f"{left.removesuffix(' %')} to {right}" if right.endswith(" %") else f"{left} to {right}"


def ticks(low: float, high: float, about: int = 5, *, whole: bool = False) -> list[float]:
    """Round numbers from `low` to `high`: steps of 1, 2 or 5 times a power of ten; about so many of them."""
    raw = (high - low) / about
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * k for k in (1, 2, 5, 10) if size * k >= raw * 0.999)
    step = max(1.0, step) if whole else step
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{k * step:.12g}") for k in range(first, last + 1)]


def clean(text: object) -> str:
    """One line without control characters (XML forbids them) and without marks that turn the text around them."""
    if isinstance(text, str) and text.isascii() and text.isprintable():
        return " ".join(text.split())
    kept = (
        " " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c
        for c in str(text)
        if c not in _STEERING and c not in "\ufffe\uffff"
    )
    return " ".join("".join(kept).split())


def width(text: str) -> float:
    """About how wide a text is, in units; a little too much rather than too little."""
    return EM * sum(_ems(c) for c in text)


def _ems(c: str) -> float:
    if unicodedata.combining(c) or unicodedata.category(c) in ("Mn", "Me", "Cf"):
        return 0.0
    if unicodedata.east_asian_width(c) in "WF" or ord(c) > 0x1F000:
        return 1.3
    if c in _NARROW:
        return 0.38
    return 0.92 if c in _WIDE else 0.7 if c.isupper() else 0.63


def shorten(text: object, room: float) -> str:
    """The text, or its start and "…", in so many units of width."""
    whole = clean(text)
    if width(whole) <= room:
        return whole
    left, kept = room - width("…"), ""
    for c in whole:
        left -= EM * _ems(c)
        if left < 0:
            break
        kept += c
    return kept.rstrip().rstrip(_JOINERS) + "…"


def empty(columns: Sequence[str], caption: str) -> Picture:
    """A picture that says in words that there is nothing to show."""
    canvas = Canvas()
    canvas.text(0, EM + 4, EMPTY, "p-soft")
    return Picture(canvas.svg(2 * EM, f"{caption}: {EMPTY}"), list(columns), [], caption)


class Canvas:
    """Collects marks. Sizes are in units from the upper left corner; `look` is a class of `pictures.css`."""

    def __init__(self) -> None:
        self._parts: list[str] = []

    def _mark(self, tag: str, look: str, title: object = None, **places: float | str) -> None:
        values = "".join(f' {key}="{_plain(value)}"' for key, value in places.items())
        inside = f"<title>{escape(clean(title))}</title></{tag}>" if title else ""
        self._parts.append(f'<{tag} class="{look}"{values}{">" if title else "/>"}{inside}')

    def line(self, x1: float, y1: float, x2: float, y2: float, look: str, title: object = None) -> None:
        self._mark("line", look, title, x1=x1, y1=y1, x2=x2, y2=y2)

    def rect(self, x: float, y: float, w: float, h: float, look: str, title: object = None) -> None:
        self._mark("rect", look, title, x=x, y=y, width=max(w, 0), height=max(h, 0))

    def circle(self, x: float, y: float, r: float, look: str, title: object = None) -> None:
        self._mark("circle", look, title, cx=x, cy=y, r=r)

    def path(self, points: Sequence[tuple[float, float]], look: str) -> None:
        """An open line through the points."""
        self._mark("path", look, d=f"M{'L'.join(f'{_plain(x)} {_plain(y)}' for x, y in points)}")

    def shape(self, points: Sequence[tuple[float, float]], look: str, title: object = None) -> None:
        """A closed form through the points."""
        self._mark("path", look, title, d=f"M{'L'.join(f'{_plain(x)} {_plain(y)}' for x, y in points)}Z")

    def boxes(self, corners: Sequence[tuple[float, float]], w: float, h: float, look: str) -> None:
        """Boxes of one size in one mark: a fifth of the bytes of as many `rect`."""
        size = f"h{_plain(w)}v{_plain(h)}h-{_plain(w)}z"
        self._mark("path", look, d="".join(f"M{_plain(x)} {_plain(y)}{size}" for x, y in corners))

    def hatch(
        self, corners: Sequence[tuple[float, float]], w: float, h: float, look: str, title: object = None
    ) -> None:
        """Three slanted lines in each box: "not known"."""
        spans = ((0, 0.5, 0.5, 0), (0, 1, 1, 0), (0.5, 1, 1, 0.5))
        steps = (
            f"M{_plain(x + a * w)} {_plain(y + b * h)}L{_plain(x + c * w)} {_plain(y + d * h)}"
            for x, y in corners
            for a, b, c, d in spans
        )
        self._mark("path", look, title, d="".join(steps))

    def text(
        self, x: float, y: float, text: object, look: str = "p-ink", *, anchor: str = "start",
        room: float = WIDTH, upright: bool = False,
    ) -> None:  # fmt: skip
        """`room`: how wide it may be; what is longer is shortened and has its whole text as title."""
        short = shorten(text, room)
        title = f"<title>{escape(clean(text))}</title>" if short != clean(text) else ""
        turn = f' transform="rotate(-90 {_plain(x)} {_plain(y)})"' if upright else ""
        where = "" if anchor == "start" else f' text-anchor="{anchor}"'
        self._parts.append(
            f'<text class="{look}" x="{_plain(x)}" y="{_plain(y)}"{where}{turn}>{title}{escape(short)}</text>'
        )

    def svg(self, height: float, label: object) -> Markup:
        return Markup(  # noqa: S704 - every text above was escaped
            f'<svg xmlns="http://www.w3.org/2000/svg" class="p-svg" width="100%" viewBox="0 0 {WIDTH} {_plain(height)}"'
            f' role="img" aria-label="{escape(clean(label))}">{"".join(self._parts)}</svg>'
        )


def _plain(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
