"""`Choices` with one choice: one decision among all its labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mollm.errors import ConfigError
from mollm_backend.labelstudio.controls import OneOf, attributes, flat_choice_rows, label_set, labels_among
from mollm_backend.store.decisions import Decision, Source


class Choices(OneOf):
    """A Choice is stored as its alias (or its value, if it has no alias), shown as its value, explained by its hint."""

    tag = "Choices"
    example = '<Choices name="tone" toName="text"><Choice value="good"/><Choice value="bad" alias="b"/></Choices>'
    key = "choices"

    def takes(self, node: Any) -> bool:
        return node.tag == self.tag and attributes(node).get("choice", "single") != "multiple"

    def decisions(self, node: Any, sources: tuple[Source, ...]) -> tuple[Decision, ...]:
        name, how = node.attrib["name"], attributes(node).get("choice", "single")
        if how not in ("single", "single-radio"):
            raise ConfigError(f'Choices {name!r} has choice="{how}": set single, single-radio or multiple.')
        rows = flat_choice_rows(node)
        if len(rows) < 2:
            raise ConfigError(f"Choices {name!r} has {len(rows)} Choice elements: a decision needs at least two.")
        return (Decision(name, sources, label_set(rows)),)

    def chosen(self, decisions: Sequence[Decision], values: Sequence[str]) -> tuple[tuple[str, str], ...]:
        (decision,) = decisions
        return tuple(("", name) for name in labels_among(decision.labels, values))

    def written(self, label: str) -> list[str]:
        return [label]

    def label(self, stored: object) -> str | None:
        one = isinstance(stored, list) and len(stored) == 1 and isinstance(stored[0], str)
        return stored[0] if one else None  # type: ignore[index]
