"""When a control is shown: `visibleWhen` of its tag, or of a tag around it, as conditions on the labels of others.

Label Studio's page hides a control whose condition is not met, and leaves it out of what it submits. So it is neither
predicted there, nor does an annotation without it say anything of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from mollm.errors import ConfigError
from mollm_backend.labelstudio.controls import attributes, by_control, control_of
from mollm_backend.store.decisions import Condition, Decision


@dataclass(frozen=True, slots=True)
class Asked:
    """A condition as the label config writes it: on one of `values` of `control` (each empty: on any)."""

    kind: str
    control: str
    values: tuple[str, ...]


def asked_of(node: Any) -> tuple[Asked, ...]:
    """The conditions of a control's tag and of the tags around it."""
    tags = [attributes(tag) for tag in (node, *node.iterancestors())]
    return tuple(
        Asked(tag.get("visiblewhen", "choice-selected"), tag.get("whentagname", ""), _values(tag))
        for tag in tags
        if "visiblewhen" in tag or "whenchoicevalue" in tag
    )


def _values(tag: dict[str, str]) -> tuple[str, ...]:
    named = tag.get("whenchoicevalue") or tag.get("whenlabelvalue") or ""
    return tuple(value.strip() for value in named.split(",") if value.strip())


def known(asked: Sequence[Asked], decisions: Sequence[Decision]) -> tuple[Condition, ...]:
    """The conditions that can be told from what is decided; the others are left out."""
    rows = {group[0].control: group for group in by_control(decisions)}
    return tuple(found for one in asked if (found := _known(one, rows)) is not None)


def _known(asked: Asked, rows: dict[str, tuple[Decision, ...]]) -> Condition | None:
    """None where the condition is on regions, on no single control, or on one in which nothing can be chosen."""
    group = rows.get(asked.control, ())
    any_of = control_of(group).chosen(group, asked.values) if group else ()
    named = bool(group) and bool(control_of(group).chosen(group, ()))
    if not named or asked.kind not in ("choice-selected", "choice-unselected"):
        return None
    return Condition(asked.control, any_of, asked.kind == "choice-unselected")


def _matters(asked: Asked) -> bool:
    """Whether a condition may hide a control of the whole task: nobody selects a region there."""
    return asked.kind in ("choice-selected", "choice-unselected", "region-selected")


def answered(decisions: Sequence[Decision], nodes: Sequence[Any]) -> list[Decision]:
    """The decisions with the conditions under which people see them."""
    asked = {node.attrib["name"]: asked_of(node) for node in nodes}
    return [replace(row, conditions=known(asked[row.control], decisions)) for row in decisions]


def unanswered(decisions: Sequence[Decision], nodes: Sequence[Any]) -> dict[str, ConfigError]:
    """Of the decided controls those of which it cannot be told when they are shown, by name, with what to change."""
    rows = {group[0].control: group for group in by_control(decisions)}
    found = {}
    for node in nodes:
        name = node.attrib["name"]
        asked = [one for one in asked_of(node) if _matters(one)]
        odd = next((one for one in asked if _known(one, rows) is None or one.control == name), None)
        if name in rows and odd is not None:
            found[name] = ConfigError(
                f"{node.tag} {name!r} is shown only sometimes, and mollm cannot tell when "
                f'(visibleWhen="{odd.kind}" whenTagName="{odd.control}"): name a control that mollm decides.'
            )
    return found


def words(conditions: Sequence[Condition]) -> str:
    """Such as `; shown where tone is bad`; "" for a control that is always shown."""
    each = [f"{one.control} is {'not ' if one.unless else ''}{_labels(one)}" for one in conditions]
    return f"; shown where {' and '.join(each)}" if each else ""


def _labels(condition: Condition) -> str:
    return " or ".join(part or label for part, label in condition.any_of) or "chosen"
