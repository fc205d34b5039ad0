"""Pruning: take predictions of batches out of Label Studio that nobody needs any more, and only ours.

Deleting hurts: who holds such a task open cannot submit, and finished annotations forget what they were made from.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.reconcile import reconcile
from mollm_backend.store import Store, batches, projects

HELD_OPEN = timedelta(hours=24)  # as long as Label Studio's lock on an opened task lives


def prunable(store: Store, project_id: int, current: set[str], at: datetime) -> list[str]:
    """Batches of ours that are not current and whose successor has been served for longer than a lock lives."""
    published = batches.published(store, project_id)  # name to its first publishing, oldest first
    return [
        name
        for name, successor in pairwise(published)
        if name not in current and at - datetime.fromisoformat(published[successor]) > HELD_OPEN
    ]


def prune(store: Store, client: LabelStudioClient, project_id: int, *, at: datetime | None = None) -> tuple[str, ...]:
    """Delete the predictions of old batches, after the provenance of every label is stored. One line a batch.

    A batch that is gone there is imported again should a rollback need it. Raises as `reconcile`, LabelStudioError.
    """
    project = projects.get(store, project_id)
    reconcile(store, client, project_id)
    current = {client.project(project_id).model_version, project.batch_version or "", project.published_version or ""}
    lines = []
    for name in prunable(store, project_id, current, at or datetime.now(UTC)):
        client.delete_version(project_id, name)  # first: one that is refused stays listed here, and is tried again
        batches.mark_unpublished(store, project_id, name)
        lines.append(f"removed the predictions of the old batch {name} from Label Studio")
    return tuple(lines)
