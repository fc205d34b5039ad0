"""Label configs: the decisions that a project asks for, and their labels to and from Label Studio's result JSON.

Only `parse` imports the SDK, when it is called; the rest loads quickly, for the web process.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mollm.errors import ConfigError
from mollm_backend.labelstudio import show_why, when
from mollm_backend.labelstudio.controls import Control, LabelOrProblem, attributes, by_control, control_of, controls
from mollm_backend.labelstudio.left_to_people import Left, left_of
from mollm_backend.store.decisions import Decision, Source, shown

MAX_CONFIG = 1_000_000  # characters; a guess: far more than a real config has, and still quick to parse
PLACES = 10**9  # a place's share of the score: a million places are below LEAST, and as floats all differ
LEAST = 0.002  # the least score outside the batch: a product of many decisions' confidences may be smaller
_OBJECTS = ("Text", "HyperText", "Paragraphs")  # the object tags that show text


@dataclass(frozen=True)
class Read:
    """What a label config asks: `decisions` of the LLMs and people, and what is `left` to people alone."""

    decisions: tuple[Decision, ...]
    left: tuple[Left, ...] = ()


def parse(xml: str) -> tuple[Decision, ...]:
    """The decisions that a label config asks for, in its order; see `read`."""
    return read(xml).decisions


def read(xml: str) -> Read:
    """The decisions that a label config asks for, in its order, and the controls that are none of ours.

    A label's name is what Label Studio stores (a Choice's alias, if it has one), `shown` is the Choice's value and
    `descriptions` its hint. A control that is not known, or that cannot be decided, is left to people: nothing is
    asked, written or counted of it. Raises ConfigError where no control is left to decide, with what to change.
    """
    interface = _interface(show_why.without(xml) if isinstance(xml, str) else xml)
    objects = dict(interface._objects)
    nodes = [node for node in interface._tree.iter() if node.attrib.get("name") in interface._controls]
    found, refused = _decided(nodes, objects, {})
    while blind := when.unanswered(found, nodes):  # a condition that cannot be told, of a control that can be decided
        found, refused = _decided(nodes, objects, refused | blind)
    if not found:
        if len(refused) == 1:
            raise next(iter(refused.values()))
        each = "".join(f" {error}" for error in list(refused.values())[:5])
        raise ConfigError(f"The label config has no control that can be decided: {_wanted()}. Add one of them.{each}")
    left = [_left(node, refused[node.attrib["name"]], found) for node in nodes if node.attrib["name"] in refused]
    return Read(_keyed(when.answered(found, nodes)), tuple(left))


def _decided(
    nodes: Sequence[Any], objects: Mapping[str, Any], refused: Mapping[str, ConfigError]
) -> tuple[list[Decision], dict[str, ConfigError]]:
    """The decisions of all controls that are not `refused`, and why those that are none are none, by name."""
    found, errors = list[Decision](), dict[str, ConfigError]()
    for node in nodes:
        name = node.attrib["name"]
        try:
            if name in refused:
                raise refused[name]
            decided = _decisions(node, objects)
            _check_beside(found, decided)
            required = attributes(node).get("required", "false").lower() == "true"
            found += [replace(row, required=required) for row in decided]
        except ConfigError as error:
            errors[name] = error
    return found, errors


def _left(node: Any, refusal: ConfigError, found: Sequence[Decision]) -> Left:
    asked = when.asked_of(node)
    return left_of(
        node, str(refusal) if _kind(node) else "", conditions=when.known(asked, found), sometimes=bool(asked),
        of_regions=any(one.kind == "region-selected" for one in asked),
    )  # fmt: skip


def _wanted() -> str:
    *tags, last = (f"`{tag}`" for tag in dict.fromkeys(control.tag for control in controls().values()))
    return f"mollm decides {', '.join(tags)} and {last} on `Text`, `HyperText` or `Paragraphs`"


def _interface(xml: str) -> Any:
    from label_studio_sdk.label_interface import LabelInterface

    if not isinstance(xml, str) or not xml.strip():
        raise ConfigError("The project has no label config: set one up in Label Studio, then connect again.")
    if len(xml) > MAX_CONFIG:
        raise ConfigError(f"The label config has {len(xml):,} characters; at most {MAX_CONFIG:,} are read.")
    try:
        return LabelInterface(xml)
    except Exception as error:
        # The SDK raises errors of its XML parser and of its tag classes, which have no common base class.
        raise ConfigError(f"The label config cannot be read: {str(error)[:300]}. Correct it in Label Studio.") from None


def _decisions(node: Any, objects: Mapping[str, Any]) -> tuple[Decision, ...]:
    control = _kind(node)
    if control is None:
        raise ConfigError(f"The control {node.attrib['name']!r} is a {node.tag}: {_wanted()}. Add one of them.")
    _check_control(node)
    return control.decisions(node, _sources(node, control, objects))


def _kind(node: Any) -> Control | None:
    """The kind of control that a node is; None for one that we do not know."""
    return next((control for control in controls().values() if control.takes(node)), None)


def _check_control(node: Any) -> None:
    what, attr = f"{node.tag} {node.attrib['name']!r}", attributes(node)
    if "value" in attr:
        raise ConfigError(
            f'{what} takes its choices from each task (value="{attr["value"]}"): '
            "dynamic choices are not supported; write the `Choice` elements into the label config."
        )
    for key in ("perregion", "peritem"):
        if attr.get(key, "false").lower() == "true":
            raise ConfigError(f"{what} is {key}: labels of regions are not supported; label the whole task.")


def _sources(node: Any, control: Control, objects: Mapping[str, Any]) -> tuple[Source, ...]:
    what, names = f"{node.tag} {node.attrib['name']!r}", node.attrib["toName"].split(",")
    targets = [objects.get(name.strip()) for name in names]
    if len(targets) != control.objects or None in targets:
        count = "one object" if control.objects == 1 else f"{control.objects} objects"
        raise ConfigError(f'{what} must name {count} in toName, not "{node.attrib["toName"]}": {_wanted()}.')
    return tuple(_source(what, target) for target in targets)


def _source(what: str, target: Any) -> Source:
    attr = {key.lower(): value for key, value in target.attr.items()}
    if target.tag not in _OBJECTS:
        raise ConfigError(f"{what} is on {target.tag} {target.name!r}, not on text: {_wanted()}.")
    if attr.get("valuetype", "text").lower() == "url":
        raise ConfigError(
            f'{target.tag} {target.name!r} has valueType="url": mollm fetches no address that a task names; '
            "import the text itself and remove valueType."
        )
    value = str(target.value or "")
    if not value.startswith("$") or not value[1:].replace("_", "a").replace("-", "a").replace(".", "a").isalnum():
        raise ConfigError(
            f'{target.tag} {target.name!r} has value="{value}": it must name one field of the task, such as "$text".'
        )
    keys = attr.get("textkey", "text"), attr.get("namekey", "author")
    return Source(target.name, value[1:], target.tag, *keys)


def _check_beside(others: Sequence[Decision], decided: Sequence[Decision]) -> None:
    """Raises ConfigError if a control reads other text than those before it, or asks for something twice."""
    what, names = f"The control {decided[0].control!r}", [decision.name for decision in (*others, *decided)]
    if others and others[0].sources != decided[0].sources:
        one, two = ("+".join(source.name for source in rows[0].sources) for rows in (others, decided))
        raise ConfigError(
            f"{what} reads {two} where {others[0].control!r} reads {one}: one project's decisions are all about the "
            "same text. Make a project for each."
        )
    doubles = sorted({name for name in names if names.count(name) > 1})
    if doubles:
        raise ConfigError(f"{what} asks for {doubles[0]!r} more than once: give each its own name.")


def _keyed(decisions: Sequence[Decision]) -> tuple[Decision, ...]:
    """Add keys and, for several controls, questions to the decisions."""
    if len(decisions) == 1:
        return tuple(decisions)
    several = len(by_control(decisions)) > 1
    return tuple(
        replace(row, key=row.name, question=row.question or (general_question(row.control) if several else ""))
        for row in decisions
    )


def general_question(control: str) -> str:
    """The question, in the LLMs' prompt, of a control that has none of its own; it names the control."""
    return f"Decide on {control} alone."


def lines_of(decisions: Sequence[Decision]) -> list[str]:
    """What the project asks, one line for each control."""
    return [
        f"{rows[0].control}: {control_of(rows).line(rows)}{when.words(rows[0].conditions)}"
        for rows in by_control(decisions)
    ]


def lines_of_left(left: Sequence[Left]) -> list[str]:
    """What is left to people: one line that names it, and one where nothing can be accepted without it."""
    if not left:
        return []
    lines = [f"not asked of the LLMs, left to people: {', '.join(row.words for row in left)}"]
    if must := [row.name for row in left if row.required]:
        names = " and ".join(map(repr, must))
        lines.append(f"people must fill {names} where it is shown (`required`): no task is accepted unseen without it")
    return lines


def results_of(decisions: Sequence[Decision], predicted: Mapping[str, tuple[str, float]]) -> list[dict[str, Any]]:
    """Label Studio's result for a label and its calibrated probability of each decision (by key).

    A part's `score` is the probability that all its labels are right. A control is left out if a label is missing, or
    if the other labels hide it.
    Raises InputError for a label that is not in the config, because Label Studio would store it unchecked.
    """
    parts, seen = [], shown(decisions, {key: label for key, (label, _) in predicted.items()})
    for rows in by_control(decisions):
        if any(row.key not in predicted or row.key not in seen for row in rows):
            continue
        for row in rows:
            row.labels.index(predicted[row.key][0])
        control = control_of(rows)
        value = control.value(rows, {row.key: predicted[row.key][0] for row in rows})
        if value is not None:
            # For a control on two objects, Label Studio accepts the name of either.
            where = {"from_name": rows[0].control, "to_name": rows[0].sources[0].name, "type": control.tag.lower()}
            parts.append(where | {"value": value, "score": round(certainty(predicted[row.key][1] for row in rows), 6)})
    return parts


def certainty(confidences: Iterable[float]) -> float:
    """The probability that all of several decisions are right, if they are independent."""
    return float(math.prod(confidences))


def joint(decisions: Sequence[Decision], predicted: Mapping[str, tuple[str, float]]) -> float:
    """The probability that all labels that people see are right; `predicted`: label and confidence by decision."""
    seen = shown(decisions, {key: label for key, (label, _) in predicted.items()})
    return certainty(confidence for key, (_, confidence) in predicted.items() if key in seen)


def words_of(decisions: Sequence[Decision], labels: Mapping[str, str]) -> str:
    """The chosen labels as text for a person; for a single decision, just its label."""
    if len(decisions) == 1:
        return labels[decisions[0].key]
    seen = shown(decisions, labels)
    known = [rows for rows in by_control(decisions) if all(row.key in labels and row.key in seen for row in rows)]
    return "; ".join(f"{rows[0].control}: {control_of(rows).words(rows, labels)}" for rows in known)


def labels_of(result: object, decisions: Sequence[Decision]) -> dict[str, LabelOrProblem]:
    """The label of each decision (by key) in a result, and what is wrong with it ("" for nothing). Never guesses."""
    if not isinstance(result, list):
        return {decision.key: (None, "the result is not a list") for decision in decisions}
    found: dict[str, LabelOrProblem] = {}
    for rows in by_control(decisions):
        name = rows[0].control
        parts = [part for part in result if isinstance(part, Mapping) and part.get("from_name") == name]
        values = [part["value"] for part in parts if isinstance(part.get("value"), Mapping)]
        if len(parts) > 1 or len(values) < len(parts):
            problem = None, f"{name!r} does not hold exactly one choice"
            found |= {row.key: problem for row in rows}
        else:
            found |= control_of(rows).read(values[0] if values else None, rows)
    return found | _hidden(result, decisions, found)


def _hidden(
    result: Sequence[object], decisions: Sequence[Decision], found: Mapping[str, LabelOrProblem]
) -> dict[str, LabelOrProblem]:
    """The decisions that nobody was asked, because what was chosen hides their control: no label, and no problem."""
    filled = {part.get("from_name") for part in result if isinstance(part, Mapping)}
    seen = shown(decisions, {key: label for key, (label, _) in found.items()})
    return {row.key: (None, "") for row in decisions if row.key not in seen and row.control not in filled}


def rank_score(rank: int) -> float:
    """The score that makes Label Studio serve a batch in order: the place (1 for rank 0) in billionths, no confidence.

    Label Studio has one score for two things: the order of the stream, and what it shows as a percentage. So small a
    number shows as 0.00 %, which nobody takes for a confidence, and is below all of `outside_score`. It grows with
    the rank and never reaches 1 (above 1, Label Studio drops the prediction), so that a batch can always be lengthened.
    """
    return (rank + 1) / (rank + 1 + PLACES)


def outside_score(confidence: float) -> float:
    """The score of a prediction that is not of the batch: its confidence, which comes after every place of a batch."""
    return max(confidence, LEAST)
