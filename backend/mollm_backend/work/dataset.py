"""A project's texts and labels as a directory that `datasets.load_dataset` reads offline: JSON lines and a card.

The card's features name the columns and their types, so that a label is a class with its name. Nothing here needs the
package `datasets`. The same store gives the same bytes.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mollm.errors import InputError
from mollm.records import FloatArray, Provenance, digest
from mollm_backend.store import Store
from mollm_backend.store.decisions import Decision
from mollm_backend.store.projects import Project
from mollm_backend.work import best

TEST = 0.2  # of the texts that people labelled: the usual share for a test
MARK = "<!-- written by mollm export -->"  # a directory whose card has it may be written again
SPLITS = ("train", "test")


def write(store: Store, project: Project, directory: Path) -> dict[str, int]:
    """Write the directory, whole or not at all; returns how many rows each split has.

    Raises InputError where the directory holds something else, or where there is nothing to write.
    """
    if directory.exists() and not _ours(directory):
        raise InputError(f"{directory} is there and was not written by `mollm export`: name another directory.")
    found = [row for row in best.rows(store, project) if row.task.text and not row.task.problem]
    if not found:
        raise InputError(f"Project {project.id} has no readable text yet: nothing was written.")
    tested = {row.task.text for row in found if _is_test(row)}
    rows = [_row(project, row, "test" if row.task.text in tested else "train") for row in found]
    parts = {name: [row for row in rows if row["split"] == name] for name in SPLITS}
    parts = {name: mine for name, mine in parts.items() if mine}
    part = directory.with_name(f".{directory.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "data").mkdir(parents=True)
    for name, mine in parts.items():
        lines = "".join(json.dumps(row) + "\n" for row in mine)
        (part / "data" / f"{name}.jsonl").write_text(lines, encoding="utf-8")
    (part / "README.md").write_text(_card(project, {name: len(mine) for name, mine in parts.items()}), "utf-8")
    shutil.rmtree(directory, ignore_errors=True)
    part.rename(directory)
    return {name: len(mine) for name, mine in parts.items()}


def _ours(directory: Path) -> bool:
    card = directory / "README.md"
    return card.is_file() and MARK in card.read_text(encoding="utf-8")


def _columns(project: Project) -> dict[str, tuple[str, str, str, str]]:
    """The names of each decision's columns (label, probabilities, provenance, annotator), by its key."""
    names = ("label", "probabilities", "provenance", "annotator")
    if len(project.decisions) == 1:
        return {project.decision.key: names}
    return {
        row.key: (row.name, *(f"{row.name} {name}" for name in names[1:]))  # type: ignore[misc]
        for row in project.decisions
    }


def _row(project: Project, row: best.Row, split: str) -> dict[str, Any]:
    found: dict[str, Any] = {"task": row.task.task_id, "text": row.task.text}
    for key, (label, probabilities, provenance, annotator) in _columns(project).items():
        one = row.best[key]
        found[label] = one.label or None
        found[probabilities] = None if one.probabilities is None else _rounded(one.probabilities)
        found[provenance] = one.provenance
        found[annotator] = one.annotator
    return found | {"version": row.version or project.published_version or "", "split": split}


def _rounded(probs: FloatArray) -> list[float]:
    return [round(float(p), 6) for p in probs]


def _is_test(row: best.Row) -> bool:
    """Whether people labelled the text, and it belongs to the fixed share that is for a test: the text decides."""
    nobodys = (best.MIXTURE, best.NONE, Provenance.CERTIFIED.value)
    by_people = not any(one.provenance in nobodys for one in row.best.values())
    return by_people and int(digest("split", row.task.text or "")[:8], 16) < TEST * 16**8


def _card(project: Project, counts: Mapping[str, int]) -> str:
    """The README: YAML that `datasets` reads, then what people should know."""
    yaml = [
        "---", "task_categories:", "- text-classification", "configs:", "- config_name: default", "  data_files:",
        *(line for name in counts for line in (f"  - split: {name}", f"    path: data/{name}.jsonl")),
        "dataset_info:", "  features:", *_features(project), "---",
    ]  # fmt: skip
    asked = "\n".join(f"- {row.name}: {', '.join(row.labels.names)}" for row in project.decisions)
    sizes = ", ".join(f"{count} in `{name}`" for name, count in counts.items())
    return "\n".join(yaml) + "\n" + CARD.format(
        mark=MARK, title=project.title, version=project.published_version or "none", asked=asked, sizes=sizes,
        share=f"{TEST:.0%}",
    )  # fmt: skip


def _features(project: Project) -> Iterable[str]:
    yield from _feature("task", "int64")
    yield from _feature("text", "string")
    for decision in project.decisions:
        label, probabilities, provenance, annotator = _columns(project)[decision.key]
        yield from _class(label, decision)
        yield f"  - name: {_quoted(probabilities)}"
        yield "    sequence: float64"  # every release of `datasets` reads this; new ones write `list`
        yield from _feature(provenance, "string")
        yield from _feature(annotator, "string")
    yield from _feature("version", "string")
    yield from _feature("split", "string")


def _feature(name: str, kind: str) -> Iterable[str]:
    yield f"  - name: {_quoted(name)}"
    yield f"    dtype: {kind}"


def _class(name: str, decision: Decision) -> Iterable[str]:
    yield f"  - name: {_quoted(name)}"
    yield "    dtype:"
    yield "      class_label:"
    yield "        names:"
    for c, label in enumerate(decision.labels.names):
        yield f"          '{c}': {_quoted(label)}"


def _quoted(text: str) -> str:
    """Text in YAML: as in JSON, but that YAML ends a line at some characters more."""
    return json.dumps(text, ensure_ascii=False).translate({ord(c): f"\\u{ord(c):04x}" for c in "\x85\u2028\u2029"})


CARD = """{mark}
# {title}

Texts and labels of a Label Studio project, written by mollm. Published version: {version}. Rows: {sizes}.

Labels, in the order of `probabilities`:

{asked}

- The label is the person's where there is one, else what a certificate accepted, else the mixture's. The provenance
  says which: `from_scratch`, `edited`, `accepted` and `bulk_accepted` are people's, `certified`, `mixture` and `none`
  are not; `not shown` is a question that the task's other answers hide.
- `probabilities` are the mixture's, whoever's the label is; null where it has not read the text.
- `annotator` is the person's number in Label Studio.
- `test` holds {share} of the texts that people labelled, chosen by the text alone; equal texts are in one split. The
  mixture has learned from people's labels, also from those in `test`: to compare a model with the mixture, use its
  cross-fitted scores (`mollm report`), not its probabilities here. People saw hard texts first, so that `test` is
  harder than the whole.
"""
