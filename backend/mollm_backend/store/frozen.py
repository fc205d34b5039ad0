"""A frozen rest: the tasks that were open when an audit was made, and what a version said of them, as stored bytes."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sqlalchemy as sa

from mollm.records import FloatArray, IntArray, digest
from mollm_backend.store import Store
from mollm_backend.store.changes import READABLE
from mollm_backend.store.decisions import Decision, shown
from mollm_backend.store.labels import closed
from mollm_backend.store.projects import Project
from mollm_backend.store.schema import predictions, tasks

COLUMNS = ("frozen", "frozen_texts", "frozen_confidence", "frozen_labels")


@dataclass(frozen=True)
class Frozen:
    """K tasks, part after part, each the most confident first. In a standing audit: the drawn tasks alone.

    `task_ids` (K,); `texts` (K,) the first 8 bytes of each text key; `confidence` (K,); `names` and `codes`: by the
    decision's key its labels, and (K,) which of them was predicted.
    """

    task_ids: IntArray
    texts: IntArray
    confidence: FloatArray
    names: Mapping[str, tuple[str, ...]]
    codes: Mapping[str, IntArray]

    def labels_at(self, n: int, decisions: Sequence[Decision] | None = None) -> dict[str, str]:
        """The predicted label of one task, by the key of each of the decisions (None: all) whose control people see."""
        found = {key: self.names[key][codes[n]] for key, codes in self.codes.items()}
        seen = found.keys() if decisions is None else shown(decisions, found)
        return {key: label for key, label in found.items() if key in seen}

    def take(self, places: IntArray) -> Frozen:
        """The tasks at `places`, in that order."""
        codes = {key: row[places] for key, row in self.codes.items()}
        return Frozen(self.task_ids[places], self.texts[places], self.confidence[places], self.names, codes)


def text_codes(text_keys: Iterable[str]) -> IntArray:
    """The first 8 bytes of each text key as a number: enough to see an edit."""
    return np.array([int(key[:16] or "0", 16) for key in text_keys], dtype=np.uint64).view(np.int64)


def packed(frozen: Frozen) -> dict[str, bytes]:
    """The values of `COLUMNS`."""
    words = {key: [list(frozen.names[key]), codes.tolist()] for key, codes in frozen.codes.items()}
    arrays = (frozen.task_ids.astype("<i8"), frozen.texts.astype("<i8"), frozen.confidence.astype("<f4"))
    blobs = (*(array.tobytes() for array in arrays), json.dumps(words).encode())
    return dict(zip(COLUMNS, map(zlib.compress, blobs), strict=True))


def unpacked(stored: Mapping[Any, bytes]) -> Frozen:
    """What `packed` made; confidences as 4-byte numbers hold them."""
    task_ids, texts, confidence, words = (zlib.decompress(stored[name]) for name in COLUMNS)
    known = json.loads(words)
    return Frozen(
        np.frombuffer(task_ids, "<i8"), np.frombuffer(texts, "<i8"), np.frombuffer(confidence, "<f4").astype(float),
        {key: tuple(names) for key, (names, _) in known.items()},
        {key: np.array(codes, dtype=np.int64) for key, (_, codes) in known.items()},
    )  # fmt: skip


def freeze(store: Store, project: Project, sure: Callable[[Iterable[float]], float]) -> tuple[Frozen, list[str]]:
    """The open rest of the published version, and (K,) the text keys: what nobody has labelled or skipped, is readable,
    and has a prediction of its text as it is now in each decision. The most confident first, ties by the task's id.

    `sure` makes one confidence of those of several decisions. Texts that are few-shot examples are left out.
    """
    names = {row.key: row.labels.names for row in project.decisions}
    code = {key: {label: n for n, label in enumerate(labels)} for key, labels in names.items()}
    found: dict[int, dict[str, sa.Row[Any]]] = {}
    with store.read() as connection:
        columns = (predictions.c[name] for name in ("task_id", "text_key", "decision", "label", "confidence"))
        for row in connection.execute(_open_predictions(project, *columns)):
            if row.label in code[row.decision]:
                found.setdefault(row.task_id, {})[row.decision] = row
    whole = [rows for rows in found.values() if len(rows) == len(names)]
    firsts = [next(iter(rows.values())) for rows in whole]
    task_ids = np.array([row.task_id for row in firsts], dtype=np.int64)
    confidence = np.array([sure(row.confidence for row in _seen(project, rows)) for rows in whole])
    codes = {key: np.array([code[key][rows[key].label] for rows in whole], dtype=np.int64) for key in names}
    order = np.lexsort((task_ids, -confidence))
    frozen = Frozen(task_ids, text_codes(row.text_key for row in firsts), confidence, names, codes)
    return frozen.take(order), [firsts[n].text_key for n in order]


def _seen(project: Project, rows: Mapping[str, sa.Row[Any]]) -> list[sa.Row[Any]]:
    """The predictions of the decisions whose control people see, by what is predicted."""
    seen = shown(project.decisions, {key: row.label for key, row in rows.items()})
    return [row for key, row in rows.items() if key in seen]


def open_ids(store: Store, project: Project) -> IntArray:
    """The tasks that `freeze` would find, rising; of several decisions one may be missing."""
    query = _open_predictions(project, predictions.c.task_id).distinct().order_by(predictions.c.task_id)
    with store.read() as connection:
        return np.array(connection.execute(query).scalars().all(), dtype=np.int64)


def _open_predictions(project: Project, *columns: sa.ColumnElement[Any]) -> sa.Select[Any]:
    same = (
        tasks.c.project_id == predictions.c.project_id, tasks.c.task_id == predictions.c.task_id,
        tasks.c.text_key == predictions.c.text_key,
    )  # fmt: skip
    keys = [decision.key for decision in project.decisions]
    here = (predictions.c.project_id == project.id, predictions.c.version == (project.published_version or ""))
    shots = {digest(row[0]) for row in project.options.get("shots", [])}
    which = (predictions.c.decision.in_(keys), READABLE, predictions.c.text_key.not_in(shots), ~closed(predictions))
    return sa.select(*columns).select_from(predictions.join(tasks, sa.and_(*same))).where(*here, *which)
