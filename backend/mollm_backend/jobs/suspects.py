"""What a training stores of the labels that its round doubts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from mollm.people.suspects import Heard, suspects
from mollm.records import HumanLabel
from mollm_backend.store import labels
from mollm_backend.store.labels import Annotation
from mollm_backend.work.suspects import STORED, SuspectLabel, addresses


def found(
    human: Sequence[HumanLabel], annotations: Sequence[Annotation], heard: Heard, decision: str
) -> list[dict[str, Any]]:
    """The facts of the suspects among `human` (H), which are the rows of `heard`, of one decision by its key."""
    counted = {(row.task_id, row.user_id): row.annotation_id for row in labels.counted(annotations, decision)}
    seen, names = addresses(annotations), heard.signals.labels
    rows = []
    for one in suspects(heard, STORED):
        task, user = int(human[one.row].item), int(human[one.row].annotator)
        row = SuspectLabel(
            task, counted[task, user], user, names[one.given], names[one.suggested], round(one.score, 3), one.reason,
            seen[task], decision,
        )  # fmt: skip
        rows.append(asdict(row))
    return rows
