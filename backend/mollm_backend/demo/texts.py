"""The demo's texts: lines of the package chatterbot-corpus, or the user's own file."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mollm.errors import InputError
from mollm.records import digest

CORPUS = "chatterbot-corpus"  # the package with the texts
TEXTS_A_TOPIC = 30  # a guess: about 200 texts are some batches, and a CPU reads them soon
TOPICS = {  # label to file; the label is what people see
    "tech support": "tech_support.yml",
    "trivia": "trivia.yml",
    "programming": "coding.yml",
    "money": "money.yml",
    "literature": "literature.yml",
    "sports": "sports.yml",
    "feelings": "emotion.yml",
}
# Usual names of columns in users' files; the first that a file has is used.
TEXT_COLUMNS = ("text", "sentence", "content", "question", "review", "body")
LABEL_COLUMNS = ("label", "labels", "class", "category", "topic")


@dataclass(frozen=True)
class Texts:
    """The content of a demo project: texts, labels to choose from, and the gold label by text, where it is known.

    `examples` are (text, label) pairs for the prompts, one for each label; they are not among the texts.
    """

    texts: tuple[str, ...]
    labels: tuple[str, ...]
    gold: dict[str, str]
    source: str
    examples: tuple[tuple[str, str], ...] = ()

    @property
    def key(self) -> str:
        """A name for this set of texts and labels, by which a second start finds its project."""
        return digest("demo/1", *self.labels, *self.texts)[:16]

    def first(self, count: int) -> Texts:
        """At most `count` texts. If gold is known, each label gives one text in turn, so that none is missing."""
        order = sorted(range(len(self.texts)), key=lambda at: (self._turn()[at], at)) if self.gold else range(count)
        kept = tuple(self.texts[at] for at in sorted(list(order)[:count]) if at < len(self.texts))
        gold = {text: self.gold[text] for text in kept if text in self.gold}
        return Texts(kept, self.labels, gold, self.source, self.examples)

    def _turn(self) -> list[int]:
        """For each text, how many texts before it have the same label."""
        seen: Counter[str] = Counter()
        turns = []
        for text in self.texts:
            label = self.gold.get(text, "")
            turns.append(seen[label])
            seen[label] += 1
        return turns


def from_corpus(directory: Path) -> Texts:
    """At most 30 texts of each topic, evenly spread over its file; the last one is the example for the prompts.

    The topics alternate. Raises InputError if a file cannot be read.
    """
    by_topic = {topic: _questions(directory / file) for topic, file in TOPICS.items()}
    twice = {text for text, count in Counter(t.casefold() for ts in by_topic.values() for t in ts).items() if count > 1}
    gold: dict[str, str] = {}
    ranked, examples = [], []
    for topic, questions in by_topic.items():
        mine = [question for question in questions if question.casefold() not in twice]
        step = max(len(mine) / TEXTS_A_TOPIC, 1.0)
        *chosen, example = [mine[int(at * step)] for at in range(min(TEXTS_A_TOPIC, len(mine)))]
        examples.append((example, topic))
        ranked += [((at + 0.5) / len(chosen), text) for at, text in enumerate(chosen)]
        gold |= dict.fromkeys(chosen, topic)
    ranked.sort(key=lambda pair: pair[0])
    return Texts(tuple(text for _, text in ranked), tuple(TOPICS), gold, CORPUS, tuple(examples))


def _questions(path: Path) -> list[str]:
    """The first line of every conversation in a file, without repeated lines."""
    try:
        conversations = yaml.safe_load(path.read_text(encoding="utf-8"))["conversations"]
    except (OSError, yaml.YAMLError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read ({error}): remove {path.parent} and start again.") from None
    first: dict[str, str] = {}
    for conversation in conversations:
        text = " ".join(str(conversation[0]).split())
        first.setdefault(text.casefold(), text)
    return list(first.values())


def from_file(path: Path, text_column: str = "", label_column: str = "", labels: tuple[str, ...] = ()) -> Texts:
    """Texts from a CSV, JSON (a list of objects) or JSONL file: a text column and, if there is one, a label column.

    The labels to choose from are `labels`, or those of the label column. A repeated text is taken once.
    Raises InputError that names the row and what to do.
    """
    rows = _rows(path)
    if not rows:
        raise InputError(f"{path} holds no rows.")
    text_at = _column(rows, text_column, TEXT_COLUMNS, path, "text")
    label_at = _column(rows, label_column, LABEL_COLUMNS, path, "label")
    if text_at is None:
        raise InputError(
            f"{path} has no text column (it has: {', '.join(map(str, rows[0]))}): "
            f"name it with --text-column, or call it one of {', '.join(TEXT_COLUMNS)}."
        )
    gold: dict[str, str] = {}
    texts: dict[str, None] = {}
    for number, row in enumerate(rows, start=1):
        text = row.get(text_at)
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{path}, row {number}: the column {text_at!r} holds no text; fill or remove the row.")
        texts[text] = None
        label = str(row.get(label_at) or "").strip() if label_at else ""
        if label:
            gold.setdefault(text, label)
    known = labels or tuple(sorted(set(gold.values())))
    if len(known) < 2:
        raise InputError(
            f"{path} gives {len(known)} labels, two at least are needed: name them with --labels 'first,second', "
            "or fill a label column."
        )
    if strange := sorted(set(gold.values()) - set(known)):
        raise InputError(f"{path} holds labels that --labels does not name: {', '.join(strange[:5])}.")
    return Texts(tuple(texts), known, gold, path.name)


def _column(rows: list[dict[str, Any]], wanted: str, usual: tuple[str, ...], path: Path, what: str) -> str | None:
    columns = {str(name).strip().casefold(): name for name in rows[0]}
    if wanted and wanted.casefold() not in columns:
        raise InputError(f"{path} has no {what} column {wanted!r}; it has: {', '.join(map(str, rows[0]))}.")
    for name in (wanted.casefold(),) if wanted else usual:
        if name in columns:
            return str(columns[name])
    return None


def _rows(path: Path) -> list[dict[str, Any]]:
    try:
        content = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 (byte {error.start}): save it as UTF-8.") from None
    kind = path.suffix.casefold()
    if kind == ".csv":
        return list(csv.DictReader(io.StringIO(content, newline="")))
    try:
        if kind == ".json":
            rows = json.loads(content)
        elif kind in (".jsonl", ".ndjson"):
            rows = [json.loads(line) for line in content.splitlines() if line.strip()]
        else:
            raise InputError(f"{path}: the file's name must end in .csv, .json or .jsonl.")
    except json.JSONDecodeError as error:
        raise InputError(f"{path} is no valid {kind[1:].upper()}: {error}.") from None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError(f"{path} must hold a list of objects, such as {{'text': ..., 'label': ...}}.")
    # Label Studio's own export wraps the fields.
    return [row["data"] if isinstance(row.get("data"), dict) else row for row in rows]
