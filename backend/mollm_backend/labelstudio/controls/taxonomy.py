"""`Taxonomy`: a decision among the leaves of a tree."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from mollm.errors import ConfigError
from mollm.records import LabelSet
from mollm_backend.labelstudio.controls import OneOf, attributes, choice_rows, label_set, labels_among
from mollm_backend.store.decisions import Decision, Source

SEPARATOR = " / "  # between the parts of a path; easy to read, and rare inside a part


class Taxonomy(OneOf):
    """A leaf is stored as its path from the root, with aliases for values that have one.

    A label's name is that path joined by " / ", or a JSON list if a part itself contains " / ". People and LLMs read
    the leaf alone, as in flat choices: asked for whole paths, small LLMs choose among the first parts.
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
        leaves = list(_leaves(name, node, (), ()))
        if len(leaves) < 2:
            raise ConfigError(f"Taxonomy {name!r} has {len(leaves)} leaves: a decision needs at least two.")
        words = _shortest([shown for _, shown, _ in leaves])
        rows = [(_name(path), shown, hint) for (path, _, hint), shown in zip(leaves, words, strict=True)]
        return (Decision(name, sources, label_set(rows), "taxonomy"),)

    def chosen(self, decisions: Sequence[Decision], values: Sequence[str]) -> tuple[tuple[str, str], ...]:
        """Label Studio compares the last part of the chosen path."""
        (decision,) = decisions
        last = LabelSet(decision.labels.names, tuple(self.written(name)[0][-1] for name in decision.labels.names))
        return tuple(("", name) for name in labels_among(last, values))

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


def _shortest(paths: Sequence[tuple[str, ...]]) -> list[str]:
    """Of each path its shortest end that no other path has: the leaf, with what it is below where leaves are alike."""
    ends = Counter(path[start:] for path in paths for start in range(len(path)))
    starts = (next((k for k in range(len(path) - 1, -1, -1) if ends[path[k:]] == 1), 0) for path in paths)
    return [SEPARATOR.join(path[start:]) for path, start in zip(paths, starts, strict=True)]


def _name(path: tuple[str, ...]) -> str:
    plain = SEPARATOR.join(path)
    clear = tuple(plain.split(SEPARATOR)) == path and not plain.startswith('["')
    return plain if clear else json.dumps(path, ensure_ascii=False)
