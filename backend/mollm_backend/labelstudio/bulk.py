"""Find the version that a bulk accepted label was made from: neither the annotation nor its export contains it.

"Create annotations from predictions" stores only the prediction's id. Up to `LOOK_UPS` predictions are fetched one by
one. If there are more, one listing gives the versions on each task first: a single version on a task is certain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from mollm.records import Provenance
from mollm_backend.store.labels import Annotation

LOOK_UPS = 300  # predictions fetched by id in one pass; a guess: more leave fewer versions unknown, but take longer

LookUp = Callable[[int], Mapping[str, Any] | None]  # a prediction by its id; None: it is deleted
Versions = Callable[[Sequence[int]], Mapping[int, set[str]]]  # for each task, the versions of its predictions


def with_versions(rows: Iterable[Annotation], look_up: LookUp, versions: Versions) -> tuple[list[Annotation], int]:
    """Return the rows, with the version of bulk accepted ones where it is certain, and how many have none."""
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
