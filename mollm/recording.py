"""Recordings: directories with the stored answers of a panel, so that experiments run again without an LLM.

`panel.json` (name, labels, annotators, samples, temperature, top_p, items, has_text), `signals.npz`
(`label_probs` float32 (N, M, C) raw, `votes` int8 (N, M, C) counts out of `samples`), `items.jsonl.gz`
(id, gold, text where there is one).
"""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mollm.errors import InputError
from mollm.records import FloatArray, IntArray, Item, LabelSet, Signals


@dataclass(frozen=True)
class Recording:
    """A panel's answers in memory. `gold` (N,) is used for scoring only; -1: not known."""

    name: str
    labels: LabelSet
    items: tuple[Item, ...]
    signals: Signals
    gold: IntArray
    samples: int
    temperature: float
    top_p: float

    @property
    def has_text(self) -> bool:
        """Whether every item has its text."""
        return all(item.text is not None for item in self.items)

    @property
    def groups(self) -> tuple[str, ...]:
        """(N,) the group of each item. Items with the same normalised text have the same group."""
        return tuple(item.group for item in self.items)


def load(directory: Path) -> Recording:
    """Read a recording directory. Raises InputError that names the file and the reason."""
    try:
        panel = json.loads((directory / "panel.json").read_text(encoding="utf-8"))
        with np.load(directory / "signals.npz", allow_pickle=False) as arrays:
            label_probs = arrays["label_probs"].astype(np.float64)
            votes = arrays["votes"].astype(np.float64)
        with gzip.open(directory / "items.jsonl.gz", "rt", encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        labels = LabelSet(tuple(panel["labels"]))
        annotators = tuple(str(annotator["name"]) for annotator in panel["annotators"])
        samples = int(panel["samples"])
    except FileNotFoundError as error:
        raise InputError(f"{directory} is not a recording: {Path(str(error.filename)).name} is missing.") from None
    except (OSError, EOFError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise InputError(f"{directory} cannot be read as a recording: {error!r}.") from None
    if len(rows) != len(label_probs):
        raise InputError(f"{directory}: items.jsonl.gz has {len(rows)} rows, signals.npz {len(label_probs)}.")
    items = tuple(Item(str(row["id"]), row.get("text")) for row in rows)
    column = {name: c for c, name in enumerate(labels.names)}
    gold = np.array([column.get(row.get("gold"), -1) for row in rows], dtype=np.int64)
    ids = tuple(item.id for item in items)
    signals = Signals(ids, annotators, labels.names, label_probs, votes / samples)
    return Recording(
        str(panel.get("name", directory.name)), labels, items, signals, gold, samples,
        float(panel.get("temperature", 1.0)), float(panel.get("top_p", 1.0)),
    )  # fmt: skip


def counts(votes: FloatArray, samples: int) -> IntArray:
    """(..., C) counts from shares, rounded by largest remainders. With the abstentions they sum to `samples`."""
    abstained = np.clip(1 - votes.sum(axis=-1, keepdims=True), 0, 1)
    whole = np.concatenate([votes, abstained], axis=-1) * samples
    out = np.floor(whole + 1e-9)
    short = samples - out.sum(axis=-1, keepdims=True)
    place = np.argsort(np.argsort(out - whole, axis=-1, kind="stable"), axis=-1)
    return np.asarray(out + (place < short), dtype=np.int64)[..., :-1]


def save(directory: Path, recording: Recording, models: Sequence[str] | None = None) -> None:
    """Write a recording directory. Each file is renamed when complete, so that a killed run leaves no half file."""
    directory.mkdir(parents=True, exist_ok=True)
    models = models or recording.signals.annotators
    panel = {
        "name": recording.name,
        "labels": list(recording.labels.names),
        "annotators": [
            {"name": name, "model": model} for name, model in zip(recording.signals.annotators, models, strict=True)
        ],
        "samples": recording.samples,
        "temperature": recording.temperature,
        "top_p": recording.top_p,
        "items": len(recording.items),
        "has_text": recording.has_text,
    }
    with _part_of(directory / "signals.npz") as part:
        np.savez_compressed(
            part,
            label_probs=recording.signals.label_probs.astype(np.float32),
            votes=counts(np.nan_to_num(recording.signals.votes), recording.samples).astype(np.int8),
        )
    with _part_of(directory / "items.jsonl.gz") as part, gzip.open(part, "wt", encoding="utf-8") as lines:
        lines.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in _rows(recording))
    with _part_of(directory / "panel.json") as part:
        part.write_text(json.dumps(panel, indent=2, ensure_ascii=False), encoding="utf-8")


@contextmanager
def _part_of(path: Path) -> Iterator[Path]:
    """A path to write to. It is renamed to `path` when the `with` block ends without an error."""
    part = path.with_name(f".part.{path.name}")
    yield part
    part.replace(path)


def _rows(recording: Recording) -> Iterator[dict[str, str]]:
    """One row for each item: its id, and its gold label and its text if they are known."""
    for item, gold in zip(recording.items, recording.gold, strict=True):
        row = {"id": item.id}
        if gold >= 0:
            row["gold"] = recording.labels.names[gold]
        if item.text is not None:
            row["text"] = item.text
        yield row
