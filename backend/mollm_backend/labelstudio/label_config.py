"""Label configs: which decision a project asks for, a task's text, and results in Label Studio's JSON.

`parse` uses the SDK (imported there); everything else here is light, for the web process.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from typing import Any

from mollm.errors import ConfigError, InputError
from mollm.records import LabelSet
from mollm.store.projects import LabelTask

MAX_TEXT = 100_000  # characters; an annotator's window is far smaller
MAX_CONFIG = 1_000_000
_OBJECTS = ("Text", "HyperText", "Paragraphs")
_ONE = "mollm needs exactly one single-choice `Choices` on one `Text`, `HyperText` or `Paragraphs`"


def parse(xml: str) -> LabelTask:
    """The one decision that a label config asks for.

    Names are what Label Studio stores (a Choice's alias where it has one), `shown` its value, `descriptions` its
    hint. Raises ConfigError that names what is not supported, and what to change.
    """
    interface = _interface(xml)
    controls, objects = dict(interface._controls), dict(interface._objects)
    if not controls:
        raise ConfigError(f"The label config has no control: {_ONE}. Add a `Choices`.")
    if len(controls) > 1:
        names = ", ".join(f"{tag.tag} {name!r}" for name, tag in controls.items())
        raise ConfigError(f"The label config has {len(controls)} controls ({names}): {_ONE}. Remove the others.")
    control = next(iter(controls.values()))
    _check_control(control)
    target = objects.get(control.to_name[0]) if len(control.to_name) == 1 else None
    if target is None:
        raise ConfigError(f"Choices {control.name!r} must name one object in toName: {_ONE}.")
    return _label_task(control, target)


def _interface(xml: str) -> Any:
    from label_studio_sdk.label_interface import LabelInterface

    if not isinstance(xml, str) or not xml.strip():
        raise ConfigError("The project has no label config: set one up in Label Studio, then connect again.")
    if len(xml) > MAX_CONFIG:
        raise ConfigError(f"The label config has {len(xml):,} characters; at most {MAX_CONFIG:,} are read.")
    try:
        return LabelInterface(xml)
    except Exception as error:
        # The SDK lets errors of its XML parser and of its tag classes through, which share no base class.
        raise ConfigError(f"The label config cannot be read: {str(error)[:300]}. Correct it in Label Studio.") from None


def _check_control(control: Any) -> None:
    name, attr = control.name, {key.lower(): value for key, value in control.attr.items()}
    if control.tag != "Choices":
        raise ConfigError(f"The control {name!r} is a {control.tag}: {_ONE}.")
    if attr.get("choice", "single") not in ("single", "single-radio"):
        raise ConfigError(
            f'Choices {name!r} has choice="{attr["choice"]}": one label a task is supported; '
            'set choice="single" (or "single-radio").'
        )
    if "value" in attr:
        raise ConfigError(
            f'Choices {name!r} takes its choices from each task (value="{attr["value"]}"): '
            "dynamic choices are not supported; write the `Choice` elements into the label config."
        )
    for key in ("perregion", "peritem"):
        if attr.get(key, "false").lower() == "true":
            raise ConfigError(f"Choices {name!r} is {key}: labels of regions are not supported; label the whole task.")
    if attr.get("visiblewhen") or attr.get("whentagname"):
        raise ConfigError(f"Choices {name!r} is shown only sometimes (visibleWhen): remove the condition.")


def _label_task(control: Any, target: Any) -> LabelTask:
    attr = {key.lower(): value for key, value in target.attr.items()}
    if target.tag not in _OBJECTS:
        raise ConfigError(f"Choices {control.name!r} is on {target.tag} {target.name!r}, not on text: {_ONE}.")
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
    return LabelTask(
        control.name, target.name, value[1:], _labels(control), kind=target.tag,
        text_key=attr.get("textkey", "text"), name_key=attr.get("namekey", "author"),
    )  # fmt: skip


def _labels(control: Any) -> LabelSet:
    tags = list(control.labels_attrs.items())
    if len(tags) < 2:
        raise ConfigError(f"Choices {control.name!r} has {len(tags)} Choice elements: a decision needs at least two.")
    names = tuple(name for name, _ in tags)
    shown = tuple(tag.attr.get("value", name) for name, tag in tags)
    hints = tuple(tag.attr.get("hint", "") for _, tag in tags)
    return LabelSet(names, shown if shown != names else (), hints if any(hints) else ())


def text_of(task_data: Mapping[str, Any], label_task: LabelTask) -> str:
    """The text that a person reads in this task. Raises InputError that says why there is none."""
    value: Any = task_data
    for part in label_task.field.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        raise InputError(f"The task has no field {label_task.field!r}: the label config reads `${label_task.field}`.")
    text = _paragraphs(value, label_task) if label_task.kind == "Paragraphs" else value
    if not isinstance(text, str):
        raise InputError(f"The task's field {label_task.field!r} is {_what(value)}, not text.")
    if label_task.kind == "HyperText":
        text = _without_tags(text)
    if not text.strip():
        raise InputError(f"The task's field {label_task.field!r} is empty: there is nothing to read.")
    if len(text) > MAX_TEXT:
        raise InputError(f"The text has {len(text):,} characters; at most {MAX_TEXT:,} are read: split the task.")
    return text.replace("\x00", "")


def _what(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), f"of type {type(value).__name__}")


def _paragraphs(value: object, label_task: LabelTask) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, Sequence) or not all(isinstance(turn, Mapping) for turn in value):
        raise InputError(
            f"The task's field {label_task.field!r} is {_what(value)}: Paragraphs needs a list of objects "
            f"with {label_task.name_key!r} and {label_task.text_key!r}."
        )
    turns = [(str(turn.get(label_task.name_key, "")).strip(), turn.get(label_task.text_key)) for turn in value]
    return "\n".join(f"{who}: {said}" if who else str(said) for who, said in turns if isinstance(said, str))


class _Words(HTMLParser):
    """The words that a browser would show, with a line break where a block ends."""

    _BLOCKS = frozenset({"p", "br", "div", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "td", "th"})
    _SILENT = frozenset({"script", "style", "head", "title"})

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:  # noqa: ARG002
        self._silent += tag in self._SILENT
        if tag in self._BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in self._SILENT and self._silent > 0
        if tag in self._BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(data)


def _without_tags(html: str) -> str:
    reader = _Words()
    reader.feed(html)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.parts).splitlines())
    return "\n".join(line for line in lines if line)


def result_of(label_task: LabelTask, label: str, confidence: float) -> list[dict[str, Any]]:
    """Label Studio's result for one label. Its `score` is the calibrated confidence, a probability.

    Raises InputError for a label that is not in the config: Label Studio would store it unchecked.
    """
    label_task.labels.index(label)
    return [
        {
            "from_name": label_task.control, "to_name": label_task.object, "type": "choices",
            "value": {"choices": [label]}, "score": round(float(confidence), 6),
        }
    ]  # fmt: skip


def rank_score(rank: int) -> float:
    """The score that makes Label Studio serve a batch in order: in (0, 1), rising with the rank (0 is first).

    Later ranks always fit above earlier ones, so a batch can be refilled in place.
    """
    return (rank + 1) / (rank + 1001)


def label_of(result: object, label_task: LabelTask) -> tuple[str | None, str]:
    """The label that a result holds, and what is wrong with it ("" for nothing). Never guesses."""
    if not isinstance(result, list):
        return None, "the result is not a list"
    choices = [
        part["value"].get("choices")
        for part in result
        if isinstance(part, Mapping) and part.get("from_name") == label_task.control
        and isinstance(part.get("value"), Mapping)
    ]  # fmt: skip
    if not choices:
        return None, f"nothing was chosen in {label_task.control!r}"
    picked = choices[0]
    if len(choices) > 1 or not isinstance(picked, list) or len(picked) != 1 or not isinstance(picked[0], str):
        return None, f"{label_task.control!r} does not hold exactly one choice"
    if picked[0] not in label_task.labels.names:
        return None, f"{picked[0][:80]!r} is not (any more) a label of the config"
    return picked[0], ""
