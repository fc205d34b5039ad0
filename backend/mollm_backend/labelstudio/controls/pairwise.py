"""`Pairwise`: a decision between two texts."""

from __future__ import annotations

from typing import Any

from mollm.errors import ConfigError
from mollm.records import LabelSet
from mollm_backend.labelstudio.controls import OneOf
from mollm_backend.store.decisions import Decision, Source

LEFT, RIGHT = "left", "right"  # as Label Studio stores the chosen side


class Pairwise(OneOf):
    """Which of two objects is better. Both are read as one text, each after its side's name."""

    tag = "Pairwise"
    example = '<Pairwise name="best" toName="one,two"/>'
    key = "selected"
    objects = 2

    def decisions(self, node: Any, sources: tuple[Source, ...]) -> tuple[Decision, ...]:
        name = node.attrib["name"]
        if sources[0].field == sources[1].field:
            raise ConfigError(f"Pairwise {name!r} compares the field {sources[0].field!r} with itself: name two.")
        question = f"Two texts are given, {LEFT} and {RIGHT}: which of them is better ({name})?"
        return (Decision(name, sources, LabelSet((LEFT, RIGHT)), "pairwise", question=question),)

    def written(self, label: str) -> str:
        return label

    def label(self, stored: object) -> str | None:
        return stored if isinstance(stored, str) else None
