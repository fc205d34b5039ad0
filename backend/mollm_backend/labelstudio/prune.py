"""Pruning: delete predictions of our own old batches from Label Studio.

Deleting has a price: a person who has such a task open cannot submit it, and Label Studio forgets from which prediction
a finished annotation was made.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise

from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.reconcile import reconcile
from mollm_backend.store import Store, batches, projects

HELD_OPEN = timedelta(hours=24)  # Label Studio's lock on an opened task lives this long


def prunable(store: Store, project_id: int, current: set[str], at: datetime) -> list[str]:
    """Our batches that are not current and whose successor was published more than HELD_OPEN before `at`."""
    published = batches.published(store, project_id)  # name to the time it was first published, oldest first
    return [
        name
        for name, successor in pairwise(published)
        if name not in current and at - datetime.fromisoformat(published[successor]) > HELD_OPEN
    ]


def prune(store: Store, client: LabelStudioClient, project_id: int, *, at: datetime | None = None) -> tuple[str, ...]:
    """Store the provenance of all labels, then delete the predictions of old batches. Returns one line for each batch.

    If a rollback needs such a batch, it is imported again. Raises LabelStudioError, and what `reconcile` raises.
    """
    project = projects.get(store, project_id)
    reconcile(store, client, project_id)
    current = {client.project(project_id).model_version, project.batch_version or "", project.published_version or ""}
    lines = []
    for name in prunable(store, project_id, current, at or datetime.now(UTC)):
        client.delete_version(project_id, name)  # before our own mark: if it fails, it is tried again
        batches.mark_unpublished(store, project_id, name)
        lines.append(f"removed the predictions of the old batch {name} from Label Studio")
    return tuple(lines)
