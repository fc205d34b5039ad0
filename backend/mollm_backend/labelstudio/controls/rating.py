"""`Rating`: a decision among the numbers of stars, of which the LLMs read each as a word."""

from __future__ import annotations

from typing import Any

from mollm.errors import ConfigError
from mollm.records import LabelSet
from mollm_backend.labelstudio.controls import OneOf, attributes
from mollm_backend.store.decisions import Decision, Source

WORDS = {
    2: ("bad", "good"),
    3: ("bad", "okay", "good"),
    4: ("terrible", "bad", "good", "excellent"),
    5: ("terrible", "bad", "okay", "good", "excellent"),
}
"""What LLMs choose among instead of numbers, by `maxRating`: small ones do not connect a number with a praise (60 own
reviews, five stars, before any label: accuracy .33 -> .57; docs/measurements.md)."""
MOST = 50  # stars; a guess: each star is a label in the prompt, so more make it long


class Rating(OneOf):
    """One star to `maxRating` stars; without a star there is no label."""

    tag = "Rating"
    example = '<Rating name="stars" toName="text" maxRating="4"/>'
    key = "rating"

    def decisions(self, node: Any, sources: tuple[Source, ...]) -> tuple[Decision, ...]:
        name, most = node.attrib["name"], attributes(node).get("maxrating", "5")
        if not most.isdecimal() or not 2 <= int(most) <= MOST:
            raise ConfigError(f'Rating {name!r} has maxRating="{most}": give a whole number from 2 to {MOST}.')
        stars = tuple(str(n) for n in range(1, int(most) + 1))
        question = f"Rate {name} from 1 (least) to {most} (most)."
        words = LabelSet(stars, WORDS[len(stars)]) if len(stars) in WORDS else None
        return (Decision(name, sources, LabelSet(stars), "rating", question=question, listed=words),)

    def written(self, label: str) -> int:
        return int(label)

    def label(self, stored: object) -> str | None:
        whole = isinstance(stored, int | float) and not isinstance(stored, bool) and stored == stored // 1
        return str(int(stored)) if whole else None  # type: ignore[call-overload]
