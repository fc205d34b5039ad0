"""A task's text, as a person reads it. It loads quickly, because the web process uses it too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html.parser import HTMLParser
from typing import Any

from mollm.errors import InputError
from mollm_backend.store.decisions import Decision, Source

MAX_TEXT = 100_000  # characters; a guess: longer than the part of a text that a small LLM reads
SIDES = ("Left", "Right")  # what a pair's texts are called in the prompt


def text_of(task_data: Mapping[str, Any], decisions: Sequence[Decision]) -> str:
    """The text that all decisions of a project read in this task. For a pair: both texts, each after its side's name.

    Raises InputError that says why there is no text.
    """
    sources = decisions[0].sources
    if len(sources) == 1:
        return _read(task_data, sources[0])
    return "\n\n".join(f"{side}: {_read(task_data, source)}" for side, source in zip(SIDES, sources, strict=True))


def _read(task_data: Mapping[str, Any], source: Source) -> str:
    value: Any = task_data
    for part in source.field.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    if value is None:
        raise InputError(f"The task has no field {source.field!r}: the label config reads `${source.field}`.")
    text = _paragraphs(value, source) if source.tag == "Paragraphs" else value
    if not isinstance(text, str):
        raise InputError(f"The task's field {source.field!r} is {_what(value)}, not text.")
    if source.tag == "HyperText":
        text = _without_tags(text)
    if not text.strip():
        raise InputError(f"The task's field {source.field!r} is empty: there is nothing to read.")
    if len(text) > MAX_TEXT:
        raise InputError(f"The text has {len(text):,} characters; at most {MAX_TEXT:,} are read: split the task.")
    return storable(text)


def storable(text: str) -> str:
    """The text as every database takes it: without NUL, each half of a surrogate pair that stands alone replaced."""
    return text.replace("\x00", "").encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _what(value: object) -> str:
    names = {bool: "a boolean", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), f"of type {type(value).__name__}")


def _paragraphs(value: object, source: Source) -> str:
    if isinstance(value, str):
        return value
    if not isinstance(value, Sequence) or not all(isinstance(turn, Mapping) for turn in value):
        raise InputError(
            f"The task's field {source.field!r} is {_what(value)}: Paragraphs needs a list of objects "
            f"with {source.name_key!r} and {source.text_key!r}."
        )
    turns = [(str(turn.get(source.name_key, "")).strip(), turn.get(source.text_key)) for turn in value]
    return "\n".join(f"{who}: {words}" if who else words for who, words in turns if isinstance(words, str))


class _Words(HTMLParser):
    """Collects the words that a browser would show, with a line break where a block starts or ends."""

    _BLOCKS = frozenset({"p", "br", "div", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "pre", "td", "th"})
    _SILENT = frozenset({"script", "style", "head", "title"})  # a browser shows no text of these

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
