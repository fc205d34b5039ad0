"""`Choices` with `choice="multiple"`: for each label there is one decision, whether it applies.

The LLMs choose one of the whole list, or none of these, and a label's share of the answer is read as yes (see
`mollm.signals.yes_or_no`): a list is asked about once. A label alone is a yes or no.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mollm.errors import ConfigError
from mollm.records import LabelSet
from mollm_backend.labelstudio.controls import (
    Control,
    LabelOrProblem,
    attributes,
    flat_choice_rows,
    label_set,
    labels_among,
)
from mollm_backend.store.decisions import Decision, Source

APPLIES, NOT = "applies", "does not apply"  # the two labels of each decision
NONE = "None of these"  # what an LLM may choose of a list besides its labels


class Multiple(Control):
    """If nothing is chosen, no label applies. Label Studio then stores no part for the control."""

    tag = "Choices"
    boxes = True
    example = (
        '<Choices name="flags" toName="text" choice="multiple"><Choice value="urgent" hint="now"/>'
        '<Choice value="rude" alias="r"/></Choices>'
    )

    def takes(self, node: Any) -> bool:
        return node.tag == self.tag and attributes(node).get("choice") == "multiple"

    def decisions(self, node: Any, sources: tuple[Source, ...]) -> tuple[Decision, ...]:
        name = node.attrib["name"]
        rows = flat_choice_rows(node)
        if not rows:
            raise ConfigError(f"Choices {name!r} has no Choice elements: write them into the label config.")
        labels = LabelSet((APPLIES, NOT), ("yes", "no"))
        if len(rows) == 1:
            (stored, shown, hint) = rows[0]
            return (Decision(name, sources, labels, "multiple", stored, _question(name, shown, hint)),)
        none = [] if NONE in {stored for stored, _, _ in rows} else [(NONE, NONE, "")]
        listed = label_set([*rows, *none])
        return tuple(Decision(name, sources, labels, "multiple", stored, listed=listed) for stored, _, _ in rows)

    def value(self, decisions: Sequence[Decision], labels: Mapping[str, str]) -> dict[str, Any] | None:
        chosen = [decision.part for decision in decisions if labels[decision.key] == APPLIES]
        return {"choices": chosen} if chosen else None

    def read(self, value: Mapping[str, Any] | None, decisions: Sequence[Decision]) -> dict[str, LabelOrProblem]:
        chosen = [] if value is None else value.get("choices")
        if not isinstance(chosen, list) or not all(isinstance(label, str) for label in chosen):
            problem: LabelOrProblem = None, f"{decisions[0].control!r} does not hold a list of choices"
            return {decision.key: problem for decision in decisions}
        return {decision.key: (APPLIES if decision.part in chosen else NOT, "") for decision in decisions}

    def chosen(self, decisions: Sequence[Decision], values: Sequence[str]) -> tuple[tuple[str, str], ...]:
        listed = decisions[0].listed or LabelSet((decisions[0].part,))
        names = labels_among(listed, values)
        return tuple((row.part, APPLIES) for row in decisions if row.part in names)

    def frequencies(self, decisions: Sequence[Decision]) -> tuple[float, ...]:
        """Of a list one label applies, on average: what an LLM that is not sure says then ticks no box."""
        return 1 / max(2, len(decisions)), 1 - 1 / max(2, len(decisions))

    def words(self, decisions: Sequence[Decision], labels: Mapping[str, str]) -> str:
        return ", ".join(row.part for row in decisions if labels[row.key] == APPLIES) or "none"

    def line(self, decisions: Sequence[Decision]) -> str:
        parts = ", ".join(decision.part for decision in decisions)
        return f"Choices (multiple), whether each applies of {parts}"


def _question(control: str, shown: str, hint: str) -> str:
    explained = f" ({hint})" if hint else ""
    return f'Answer for {control}: does "{shown}"{explained} apply to the text?'
