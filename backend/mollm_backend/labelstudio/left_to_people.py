"""The controls of a label config that are left to people, and whether an annotation may be written without them.

Label Studio's server stores an annotation that lacks a required control; only its page refuses to submit one. So what
a certificate accepts unseen must not lack what people had to fill. Where it cannot be told whether a required control
would be shown, it is taken to be shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mollm_backend.labelstudio.controls import attributes, by_control, control_of
from mollm_backend.store.decisions import Condition, Decision, sight


@dataclass(frozen=True, slots=True)
class Left:
    """A control that nobody but people fills. `why` it is left, where its kind is one that we know.

    `sometimes`: it is shown only under conditions; `conditions` are those that can be told from what is decided.
    """

    name: str
    tag: str
    why: str = ""
    required: bool = False
    conditions: tuple[Condition, ...] = ()
    sometimes: bool = False

    @property
    def words(self) -> str:
        return f"{self.tag} {self.name!r}" + (f", which {self.why}" if self.why else "")


def left_of(node: Any, refusal: str, *, conditions: tuple[Condition, ...], sometimes: bool, of_regions: bool) -> Left:
    """A node of the label config as what is left; `refusal` starts with the control and says why ("": unknown kind).

    A control of regions is never missing where there is no region.
    """
    given = attributes(node)
    of_regions = of_regions or any(given.get(key, "false").lower() == "true" for key in ("perregion", "peritem"))
    required = given.get("required", "false").lower() == "true" and not of_regions
    why = refusal.partition(f"{node.attrib['name']!r} ")[2].partition(": ")[0]
    return Left(node.attrib["name"], str(node.tag), why, required, conditions, sometimes)


def lacks(left: Sequence[Left], decisions: Sequence[Decision], labels: Mapping[str, str]) -> Left | None:
    """The first required control that people would have to fill beside these labels (by key); None: nothing is lacking.

    Of the controls that are decided that is one in which these labels choose nothing.
    """
    seen = sight(decisions, labels)
    for rows in by_control(decisions):
        if rows[0].required and seen(rows[0].conditions) and all(row.key in labels for row in rows):
            control = control_of(rows)
            if control.value(rows, labels) is None:
                return Left(rows[0].control, control.tag, "has nothing chosen", required=True)
    return next((row for row in left if row.required and seen(row.conditions)), None)
