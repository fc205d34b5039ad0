"""Controls: one file for each kind of control tag. It gives the control's decisions, and its JSON to and from labels.

A new control is one new file with one subclass of `Control`; the contract tests run on its `example`. Nothing here
loads the SDK: `node` is an lxml element of the label config's XML tree.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from typing import Any, ClassVar

from mollm.errors import ConfigError
from mollm.records import LabelSet
from mollm_backend.store.decisions import Decision, Source

LabelOrProblem = tuple[str | None, str]  # a label, or None and why there is none


class Control(ABC):
    """A kind of control. `read` turns the result of `value` back into the same labels."""

    tag: ClassVar[str]
    example: ClassVar[str]  # its XML in a label config, on the object `text` (for two objects: `one,two`)
    objects: ClassVar[int] = 1  # the number of objects in its toName
    boxes: ClassVar[bool] = False  # each decision is a box, ticked by its first label, and any number may be ticked

    def takes(self, node: Any) -> bool:
        """Whether this class is for the control."""
        return bool(node.tag == self.tag)

    @abstractmethod
    def decisions(self, node: Any, sources: tuple[Source, ...]) -> tuple[Decision, ...]:
        """The control's decisions in order; keys are added later. Raises ConfigError that says what is wrong."""

    @abstractmethod
    def value(self, decisions: Sequence[Decision], labels: Mapping[str, str]) -> dict[str, Any] | None:
        """The result's `value` for one label of each decision (by key); None if these labels choose nothing."""

    @abstractmethod
    def read(self, value: Mapping[str, Any] | None, decisions: Sequence[Decision]) -> dict[str, LabelOrProblem]:
        """The label of each decision in a result's `value` (None: the control has no part in the result)."""

    def chosen(self, decisions: Sequence[Decision], values: Sequence[str]) -> tuple[tuple[str, str], ...]:  # noqa: ARG002
        """The labels, as (part, label), that choose one of `values` (none given: that choose anything).

        Label Studio takes a Choice's value or its alias for it. Empty: no condition can ask for this control.
        """
        return ()

    def frequencies(self, decisions: Sequence[Decision]) -> tuple[float, ...] | None:  # noqa: ARG002 - for subclasses
        """How frequent each decision's labels are thought to be before anybody has labelled (None: equally)."""
        return None

    def words(self, decisions: Sequence[Decision], labels: Mapping[str, str]) -> str:
        """The chosen labels as text for a person."""
        (decision,) = decisions
        return labels[decision.key]

    def line(self, decisions: Sequence[Decision]) -> str:
        """What the control asks, as one line for a person."""
        (decision,) = decisions
        return f"{self.tag}, one of {', '.join(decision.labels.names)}"


class OneOf(Control):
    """A control that holds exactly one of its decision's labels."""

    key: ClassVar[str]  # the key of the label in the result's value

    def value(self, decisions: Sequence[Decision], labels: Mapping[str, str]) -> dict[str, Any] | None:
        (decision,) = decisions
        return {self.key: self.written(labels[decision.key])}

    def read(self, value: Mapping[str, Any] | None, decisions: Sequence[Decision]) -> dict[str, LabelOrProblem]:
        (decision,) = decisions
        return {decision.key: self._label(value, decision)}

    def _label(self, value: Mapping[str, Any] | None, decision: Decision) -> LabelOrProblem:
        if value is None:
            return None, f"nothing was chosen in {decision.control!r}"
        label = self.label(value.get(self.key))
        if label is None:
            return None, f"{decision.control!r} does not hold exactly one choice"
        if label not in decision.labels.names:
            return None, f"{label[:80]!r} is not (any more) a label of the config"
        return label, ""

    @abstractmethod
    def written(self, label: str) -> Any:
        """A label as Label Studio stores it."""

    @abstractmethod
    def label(self, stored: object) -> str | None:
        """The label in what Label Studio stored; None if it is not exactly one."""


def attributes(node: Any) -> dict[str, str]:
    """A tag's attributes by lower-case name, because Label Studio ignores the case of names."""
    return {key.lower(): value for key, value in node.attrib.items()}


def choice_rows(name: str, elements: Iterable[Any]) -> list[tuple[str, str, str]]:
    """(stored, shown, hint) of each Choice element of a control.

    Raises ConfigError for a Choice without a value.
    """
    rows = [attributes(element) for element in elements]
    if not all(row.get("value") for row in rows):
        raise ConfigError(f"{name!r} has a Choice without a value: give each one.")
    return [(row.get("alias") or row["value"], row["value"], row.get("hint", "")) for row in rows]


def flat_choice_rows(node: Any) -> list[tuple[str, str, str]]:
    """`choice_rows` of a `Choices` tag. Also raises ConfigError for a Choice inside a Choice."""
    name = node.attrib["name"]
    if any(True for row in node.iter("Choice") for _ in row.iterancestors("Choice")):
        raise ConfigError(f"Choices {name!r} has a Choice inside a Choice: make it a Taxonomy.")
    return choice_rows(name, node.iter("Choice"))


def label_set(rows: Sequence[tuple[str, str, str]]) -> LabelSet:
    """Labels from (stored, shown, hint)."""
    names, shown, hints = (tuple(row[n] for row in rows) for n in range(3))
    return LabelSet(names, shown if shown != names else (), hints if any(hints) else ())


@cache
def controls() -> dict[str, Control]:
    """Every kind of control in this folder, by its file's name. That name is the decision's `kind`."""
    found = {}
    for module in pkgutil.iter_modules(__path__):
        names = vars(importlib.import_module(f"{__name__}.{module.name}"))
        own = [kind for kind in names.values() if isinstance(kind, type) and kind.__module__.endswith(module.name)]
        found[module.name] = next(kind() for kind in own if issubclass(kind, Control))
    return dict(sorted(found.items()))


def labels_among(labels: LabelSet, values: Sequence[str]) -> list[str]:
    """The names of the labels whose name or shown text is one of `values` (none given: all)."""
    pairs = ((name, labels.text_of(c)) for c, name in enumerate(labels.names))
    return [name for name, text in pairs if not values or {name, text} & set(values)]


def control_of(decisions: Sequence[Decision]) -> Control:
    """The kind of control that these decisions belong to."""
    return controls()[decisions[0].kind]


def by_control(decisions: Sequence[Decision]) -> list[tuple[Decision, ...]]:
    """A project's decisions, grouped by control, in the order of the label config."""
    found: dict[str, list[Decision]] = {}
    for decision in decisions:
        found.setdefault(decision.control, []).append(decision)
    return [tuple(rows) for rows in found.values()]
