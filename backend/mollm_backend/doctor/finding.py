"""One finding of the doctor: what is so, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """`kind`: fine, notice (it works, but know it) or problem. `name` never changes; `line` tells; `fix` helps."""

    kind: Literal["fine", "notice", "problem"]
    name: str
    line: str
    fix: str = ""


def problem(name: str, line: str, fix: str) -> Finding:
    """Something that does not work."""
    return Finding("problem", name, line, fix)


def notice(name: str, line: str, fix: str) -> Finding:
    """Something that works, but otherwise than one may think."""
    return Finding("notice", name, line, fix)


def fine(name: str, line: str) -> Finding:
    """Something that was looked at and works."""
    return Finding("fine", name, line)
