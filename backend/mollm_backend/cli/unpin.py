"""`mollm unpin`: let new versions be published again after a rollback."""

from __future__ import annotations

from mollm_backend.cli.terminal import ProjectId, a_queue, open_store, say
from mollm_backend.jobs import acting
from mollm_backend.work import queues
from mollm_backend.work.actions import COMMAND_LINE, Asked


def unpin(project: ProjectId) -> None:
    """Let new versions be published again after a rollback; the newest that was held back is published now."""
    loaded, store = open_store()
    with a_queue():
        for line in acting.unpin(store, queues.connect(loaded.queue_url), Asked(project, "unpin", "", COMMAND_LINE)):
            say(line)
