"""Which version a bulk accepted label was made from: neither the annotation nor its export says it.

"Create annotations from predictions" keeps the prediction's id alone. A few are asked for one by one; of many, one
listing tells which versions their tasks hold, and where that is a single one it is certain. The others stay unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mollm.records import Provenance
from mollm_backend.store.labels import Annotation

LOOK_UPS = 300  # predictions that one pass asks for by their id

LookUp = Callable[[int], Mapping[str, Any] | None]  # a prediction by its id; None: it is gone
Versions = Callable[[Sequence[int]], Mapping[int, set[str]]]  # which versions these tasks hold predictions of


def with_versions(rows: Iterable[Annotation], look_up: LookUp, versions: Versions) -> tuple[list[Annotation], int]:
    """The rows, bulk accepted ones with their version where it is certain, and of how many it stays unknown."""
    rows = list(rows)
    asked = {row.parent_prediction: row.task_id for row in rows if _lacks(row) and row.parent_prediction is not None}
    if not asked:
        return rows, 0
    certain: dict[int, str] = {}
    if len(asked) > LOOK_UPS:
        held = versions(sorted(set(asked.values())))
        certain = {
            prediction: next(iter(held[task])) for prediction, task in asked.items() if len(held.get(task, ())) == 1
        }
    for prediction in [one for one in sorted(asked) if one not in certain][:LOOK_UPS]:
        found = look_up(prediction)
        if found is not None and found.get("model_version"):
            certain[prediction] = str(found["model_version"])
    filled = [
        replace(row, shown_version=certain[row.parent_prediction])
        if _lacks(row) and row.parent_prediction in certain
        else row
        for row in rows
    ]
    return filled, sum(_lacks(row) for row in filled)


def _lacks(row: Annotation) -> bool:
    return row.provenance is Provenance.BULK_ACCEPTED and row.shown_version is None
