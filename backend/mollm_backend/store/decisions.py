"""What a project asks of each task: one or more decisions, and the text that all of them read."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mollm.records import LabelSet


@dataclass(frozen=True, slots=True)
class Source:
    """An object of the label config: the task's field that it shows, and how to read it.

    In a dialogue (tag Paragraphs) `text_key` and `name_key` name what is said and by whom.
    """

    name: str
    field: str
    tag: str = "Text"
    text_key: str = "text"
    name_key: str = "author"


@dataclass(frozen=True, slots=True)
class Condition:
    """Met if one of these labels of a control is chosen; where `unless`, if none of them is.

    `any_of`: (the decision's part, its label), since a multiple choice is several decisions.
    """

    control: str
    any_of: tuple[tuple[str, str], ...]
    unless: bool = False


@dataclass(frozen=True, slots=True)
class Decision:
    """One choice among C labels that a control asks for, with a panel, a mixture and a classifier of its own.

    `kind` names the control's file in `mollm_backend.labelstudio.controls`; `part` is the one label of a multiple
    choice that this decision is about; the panel chooses among the `listed` labels, `part` among them; without a part
    they are this decision's own in other words (None: it chooses among its own). `question` is added to the panel's
    instruction. `key` tells the decisions of a project apart, in the store and everywhere: it is empty where a project
    asks for only one. People see the control only where all its `conditions` are met, and must fill it there if it is
    `required`.
    """

    control: str
    sources: tuple[Source, ...]
    labels: LabelSet
    kind: str = "choices"
    part: str = ""
    question: str = ""
    key: str = ""
    listed: LabelSet | None = None
    conditions: tuple[Condition, ...] = ()
    required: bool = False

    @property
    def asked(self) -> LabelSet:
        """The labels that the panel chooses among."""
        return self.labels if self.listed is None else self.listed

    @property
    def of_a_list(self) -> bool:
        """Whether what is asked is about a whole list, and this decision about one label of it."""
        return self.listed is not None and bool(self.part)

    @property
    def name(self) -> str:
        """What people call it."""
        return f"{self.control}/{self.part}" if self.part else self.control

    def instruction(self, general: str) -> str:
        """The panel's instruction with this decision's own question."""
        return f"{general.strip()} {self.question}" if self.question else general

    def as_json(self) -> dict[str, Any]:
        """What `from_json` reads again."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Decision:
        listed = _label_set(data["listed"]) if data.get("listed") else None
        sources = tuple(Source(**source) for source in data["sources"])
        conditions = tuple(_condition(**row) for row in data.get("conditions", ()))
        known = {"labels": _label_set(data["labels"]), "sources": sources, "listed": listed, "conditions": conditions}
        return cls(**(data | known))


def _condition(control: str, any_of: Sequence[Sequence[str]], unless: bool) -> Condition:
    return Condition(control, tuple((part, label) for part, label in any_of), unless)


def shown(decisions: Sequence[Decision], labels: Mapping[str, str | None]) -> set[str]:
    """The keys of the decisions whose control people see in an annotation with these labels (by key)."""
    seen = sight(decisions, labels)
    return {decision.key for decision in decisions if seen(decision.conditions)}


def sight(decisions: Sequence[Decision], labels: Mapping[str, str | None]) -> Callable[[Sequence[Condition]], bool]:
    """Whether people see what stands under given conditions, in an annotation with these labels (by key).

    Nothing is chosen in a control that is hidden. A condition on a control whose labels are not known is not met.
    """
    rows: dict[str, list[Decision]] = {}
    for decision in decisions:
        rows.setdefault(decision.control, []).append(decision)
    found: dict[str, bool] = {}

    def met(one: Condition) -> bool:
        if one.control not in found:
            found[one.control] = False  # of two controls that wait for each other, neither is seen
            found[one.control] = one.control in rows and all(map(met, rows[one.control][0].conditions))
        if not found[one.control]:
            return one.unless
        chosen = [(row.part, labels.get(row.key)) for row in rows[one.control]]
        return all(label for _, label in chosen) and any(pair in one.any_of for pair in chosen) != one.unless

    return lambda conditions: all(map(met, conditions))


def _label_set(rows: dict[str, Any]) -> LabelSet:
    return LabelSet(**{key: tuple(values) for key, values in rows.items()})
