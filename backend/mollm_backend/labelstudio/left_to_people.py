"""The controls of a label config that are left to people, and whether an annotation may be written without them.

Label Studio's server stores an annotation that lacks a required control; only its page refuses to submit one. So what
a certificate accepts unseen must not lack what people had to fill. Where it cannot be told whether a required control
would be shown, it is taken to be shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mollm_backend.labelstudio.controls import attributes
from mollm_backend.store.decisions import Decision


@dataclass(frozen=True, slots=True)
class Condition:
    """`visibleWhen` of a control or of a tag around it: shown if `control` has one of `values` chosen (or any)."""

    kind: str
    control: str = ""
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Left:
    """A control that nobody but people fills. `why` it is left, where its kind is one that we know."""

    name: str
    tag: str
    why: str = ""
    required: bool = False
    conditions: tuple[Condition, ...] = ()

    @property
    def words(self) -> str:
        return f"{self.tag} {self.name!r}" + (f", which {self.why}" if self.why else "")


def left_of(node: Any, refusal: str) -> Left:
    """A node of the label config as what is left; `refusal` starts with the control and says why ("": unknown kind).

    A control of regions is never missing where there is no region.
    """
    given = attributes(node)
    around = [attributes(tag) for tag in (node, *node.iterancestors())]
    conditions = tuple(
        Condition(tag["visiblewhen"], tag.get("whentagname", ""), _values(tag))
        for tag in around
        if "visiblewhen" in tag
    )
    of_regions = any(given.get(key, "false").lower() == "true" for key in ("perregion", "peritem"))
    required = given.get("required", "false").lower() == "true" and not of_regions
    why = refusal.partition(f"{node.attrib['name']!r} ")[2].partition(": ")[0]
    return Left(node.attrib["name"], str(node.tag), why, required, conditions)


def _values(tag: Mapping[str, str]) -> tuple[str, ...]:
    named = tag.get("whenchoicevalue") or tag.get("whenlabelvalue") or ""
    return tuple(value.strip() for value in named.split(",") if value.strip())


def lacks(left: Sequence[Left], decisions: Sequence[Decision], labels: Mapping[str, str]) -> Left | None:
    """The first required control that people would have to fill beside these labels (by key); None: nothing is
    lacking."""
    chosen: dict[str, set[str]] = {}
    for decision in decisions:
        if decision.kind == "choices" and decision.key in labels:
            label = labels[decision.key]
            chosen[decision.control] = {label, decision.labels.text_of(decision.labels.index(label))}
    return next((row for row in left if row.required and all(_met(one, chosen) for one in row.conditions)), None)


def _met(condition: Condition, chosen: Mapping[str, set[str]]) -> bool:
    """Whether a condition holds in an annotation with these choices and no regions, or may hold."""
    if condition.kind == "region-selected":
        return False
    if condition.kind not in ("choice-selected", "choice-unselected") or condition.control not in chosen:
        return True
    some = not condition.values or bool(chosen[condition.control] & set(condition.values))
    return some if condition.kind == "choice-selected" else not some
