"""Build prompts from a label set and an instruction, with the answers that an LLM may give.

A template is a TOML file (`chat.toml`, `plain.toml`, or a user's own). Its content is part of every signal's content
address. The part that all texts share comes first and the text last, so that prefix caches can be used.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import Field

from mollm.config import Frozen
from mollm.errors import ConfigError
from mollm.records import LabelSet, digest


@dataclass(frozen=True, slots=True)
class Shot:
    """One example in a prompt: a text and its label's stored name. Items used as shots are never scored or fitted."""

    text: str
    label: str


class PromptTemplate(Frozen):
    """One template file; see `chat.toml` for what each key means."""

    version: str = Field(min_length=1)
    kind: Literal["chat", "plain"]
    system: str = ""
    head: str
    head_with_shots: str | None = None
    label: str
    label_described: str
    label_coded: str
    label_coded_described: str
    shot: str
    before_text: str
    after_text: str
    prefill: str = ""
    shots_as_turns: bool = False
    one_line: bool = True

    def key(self) -> str:
        return digest(self.model_dump_json())


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt for one label order: `before` + text + `after`, then one of `answers` (C,) in the label set's order.

    Everything but the text is the same for all texts. In a chat, `turns` are few shots as (user, assistant) pairs,
    `before` + text + `after` is the last user turn, and `prefill` is the start of the model's turn. `answers` start
    with a blank, except in a chat without a prefill: there they are the start of the model's turn.
    """

    kind: Literal["chat", "plain"]
    system: str
    before: str
    after: str
    answers: tuple[str, ...]
    coded: bool
    one_line: bool
    turns: tuple[tuple[str, str], ...] = ()
    prefill: str = ""

    def messages(self, piece: str) -> list[dict[str, str]]:
        """The conversation for a chat model, without the prefill. `piece` is the result of `piece(text)`."""
        turns = [(role, text) for pair in self.turns for role, text in zip(("user", "assistant"), pair, strict=True)]
        whole = [("system", self.system)] * bool(self.system) + turns + [("user", self.before + piece + self.after)]
        return [{"role": role, "content": content} for role, content in whole]

    def without_prefill(self) -> Prompt:
        """The prompt for servers that cannot start the model's turn: the prefill moves to the end of the user's."""
        if not self.prefill:
            return self
        asked = "\n" + self.prefill
        turns = tuple((user + asked, answer.removeprefix(self.prefill).lstrip()) for user, answer in self.turns)
        answers = tuple(answer.lstrip() for answer in self.answers)
        return replace(self, after=self.after + asked, turns=turns, answers=answers, prefill="")

    def piece(self, text: str) -> str:
        """The text as it stands in the prompt: after one blank, without line breaks that could imitate the prompt."""
        return " " + (" ".join(text.split()) if self.one_line else text.strip())


def load_template(name: str) -> PromptTemplate:
    """The shipped template `name`, or the file at that path. Raises ConfigError with the file and the key."""
    shipped = Path(__file__).parent / f"{name}.toml"
    path = shipped if shipped.is_file() else Path(name).expanduser()
    try:
        return PromptTemplate.from_toml(path)
    except OSError:
        raise ConfigError(f"There is no prompt template {name!r}: name `chat`, `plain` or a TOML file.") from None


def label_orders(C: int, count: int) -> list[tuple[int, ...]]:
    """At least one and at most `count` label orders: as given, reversed, then rotations of both.

    An order lists the label indices by place. There are fewer than `count` if the rotations run out.
    """
    given = tuple(range(C))
    turns = [given[k:] + given[:k] for k in range(C)]
    found = dict.fromkeys([given, given[::-1], *(t for turn in turns for t in (turn, turn[::-1]))])
    return list(found)[: max(1, count)]


def codes_for(C: int) -> tuple[str, ...]:
    """One short code for each place: letters for up to 26, else numbers of equal width (no code begins another)."""
    if C <= 26:
        return tuple(chr(ord("A") + place) for place in range(C))
    width = len(str(C))
    return tuple(f"{place + 1:0{width}d}" for place in range(C))


def build_prompt(
    template: PromptTemplate,
    labels: LabelSet,
    instruction: str,
    shots: Sequence[Shot] = (),
    *,
    coded: bool = False,
    order: Sequence[int] | None = None,
) -> Prompt:
    """The prompt for one label order. `order` lists label indices by place (None: as given).

    A code belongs to a place, not to a label. So averaging over orders also removes a model's preference for "A".
    Raises ConfigError for a shot with an unknown label or a placeholder in the template that cannot be filled.
    """
    places = tuple(order) if order is not None else tuple(range(labels.C))
    codes = codes_for(labels.C)
    code_of = {c: codes[place] for place, c in enumerate(places)}
    answers = tuple(code_of[c] if coded else _one_line(labels.text_of(c)) for c in range(labels.C))
    try:
        lines = "".join(_label_line(template, labels, c, code_of[c], coded) for c in places)
        pairs = [(_one_line(shot.text), answers[_known(labels, shot)]) for shot in _in_order(shots, labels, places)]
        in_head = [] if template.shots_as_turns else pairs
        examples = "".join(template.shot.format(text=text, answer=answer) for text, answer in in_head)
        known = {"instruction": instruction.strip(), "labels": lines.rstrip(", "), "shots": examples}
        head = _head(template, labels, shots).format(**known)
    except (KeyError, IndexError, ValueError) as error:
        raise ConfigError(
            f"The prompt template {template.version!r} has a placeholder that cannot be filled: {error}."
        ) from None
    head, before = head.lstrip(), template.before_text
    lead = " " if template.kind == "plain" or template.prefill else ""
    turns = tuple(
        (head * (k == 0) + before + " " + text + template.after_text, template.prefill + lead + answer)
        for k, (text, answer) in enumerate(pairs)
        if template.shots_as_turns
    )
    return Prompt(
        kind=template.kind,
        system=template.system.strip(),
        before=(before if turns else head + before).lstrip(),
        after=template.after_text,
        answers=tuple(lead + answer for answer in answers),
        coded=coded,
        one_line=template.one_line,
        turns=turns,
        prefill=template.prefill,
    )


def pick_shots(candidates: Iterable[Shot], labels: LabelSet, per_label: int) -> tuple[Shot, ...]:
    """The first `per_label` shots of each label: the first of all labels, then the second of all, and so on. Raises
    ConfigError for an unknown label."""
    by_label: dict[str, list[Shot]] = {name: [] for name in labels.names}
    for shot in candidates:
        _known(labels, shot)
        if len(by_label[shot.label]) < per_label:
            by_label[shot.label].append(shot)
    rounds = range(per_label)
    return tuple(rows[k] for k in rounds for rows in by_label.values() if k < len(rows))


def _head(template: PromptTemplate, labels: LabelSet, shots: Sequence[Shot]) -> str:
    """`head_with_shots` if the template has one, the shots show every label and no label is described; else `head`."""
    shown = {shot.label for shot in shots} == set(labels.names)
    if template.head_with_shots is None or not shown or any(labels.descriptions):
        return template.head
    return template.head_with_shots


def _label_line(template: PromptTemplate, labels: LabelSet, c: int, code: str, coded: bool) -> str:
    description = _one_line(labels.descriptions[c]) if labels.descriptions else ""
    if coded:
        line = template.label_coded_described if description else template.label_coded
    else:
        line = template.label_described if description else template.label
    return line.format(name=_one_line(labels.text_of(c)), code=code, description=description)


def _in_order(shots: Sequence[Shot], labels: LabelSet, places: Sequence[int]) -> list[Shot]:
    """The shots in rounds of one a label, each round in the labels' order: a model gives the last shot most weight."""
    place_of = {c: place for place, c in enumerate(places)}
    seen: dict[str, int] = {}
    keyed = []
    for shot in shots:
        c = _known(labels, shot)
        seen[shot.label] = seen.get(shot.label, 0) + 1
        keyed.append((seen[shot.label], place_of[c], shot))
    return [shot for _, _, shot in sorted(keyed, key=lambda row: row[:2])]


def _known(labels: LabelSet, shot: Shot) -> int:
    if shot.label not in labels.names:
        raise ConfigError(f"A few-shot example is labelled {shot.label!r}, which is not one of {list(labels.names)}.")
    return labels.names.index(shot.label)


def _one_line(text: str) -> str:
    return " ".join(text.split())
