"""`Taxonomy`: a decision among the leaves of a tree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from mollm.errors import ConfigError
from mollm_backend.labelstudio.controls import OneOf, attributes, choice_rows, label_set
from mollm_backend.store.decisions import Decision, Source

SEPARATOR = " / "  # between the parts of a path; easy to read, and rare inside a part


class Taxonomy(OneOf):
    """A leaf is stored as its path from the root, with aliases for values that have one.

    A label's name is that path joined by " / ", or a JSON list if a part itself contains " / ".
    """

    tag = "Taxonomy"
    example = (
        '<Taxonomy name="topic" toName="text"><Choice value="Sport"><Choice value="Football" alias="fb"/>'
        '<Choice value="Chess" hint="a board"/></Choice><Choice value="a / b"><Choice value="c"/></Choice>'
        '<Choice value="Other"/></Taxonomy>'
    )
    key = "taxonomy"

    def decisions(self, node: Any, sources: tuple[Source, ...]) -> tuple[Decision, ...]:
        name, attr = node.attrib["name"], attributes(node)
        for key, why in (("apiurl", "is read from an address"), ("legacy", "lets people add labels")):
            if attr.get(key, "false") not in ("false", ""):
                raise ConfigError(
                    f"Taxonomy {name!r} {why} ({key}): write the `Choice` elements into the label config."
                )
        if attr.get("labeling", "false") == "true":
            raise ConfigError(f"Taxonomy {name!r} labels regions (labeling): label the whole task.")
        rows = [(_name(path), SEPARATOR.join(shown), hint) for path, shown, hint in _leaves(name, node, (), ())]
        if len(rows) < 2:
            raise ConfigError(f"Taxonomy {name!r} has {len(rows)} leaves: a decision needs at least two.")
        return (Decision(name, sources, label_set(rows), "taxonomy"),)

    def written(self, label: str) -> list[list[str]]:
        return [json.loads(label) if label.startswith('["') else label.split(SEPARATOR)]

    def label(self, stored: object) -> str | None:
        path = stored[0] if isinstance(stored, list) and len(stored) == 1 else None
        if not isinstance(path, list) or not path or not all(isinstance(part, str) for part in path):
            return None
        return _name(tuple(path))


def _leaves(
    name: str, node: Any, path: tuple[str, ...], shown: tuple[str, ...]
) -> Iterator[tuple[tuple[str, ...], tuple[str, ...], str]]:
    """(stored path, shown path, hint) of each leaf below a node, in the order of the label config."""
    below = [child for child in node if child.tag == "Choice"]
    for child, (stored, value, hint) in zip(below, choice_rows(name, below), strict=True):
        here, seen = (*path, stored), (*shown, value)
        if any(grandchild.tag == "Choice" for grandchild in child):
            yield from _leaves(name, child, here, seen)
        else:
            yield here, seen, hint


def _name(path: tuple[str, ...]) -> str:
    plain = SEPARATOR.join(path)
    clear = tuple(plain.split(SEPARATOR)) == path and not plain.startswith('["')
    return plain if clear else json.dumps(path, ensure_ascii=False)
