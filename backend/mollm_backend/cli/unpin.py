"""`mollm unpin`: let new versions be published again after a rollback."""

from __future__ import annotations

from mollm_backend.cli.terminal import ProjectId, a_queue, open_store, say
from mollm_backend.store import events, pins, projects
from mollm_backend.work import queues


def unpin(project: ProjectId) -> None:
    """Let new versions be published again after a rollback; the newest that was held back is published now."""
    loaded, store = open_store()
    found = projects.get(store, project)
    if not found.pin:
        say(f"Project {project} is not pinned: each new version that passes the gate is published.")
        return
    with a_queue():
        queues.connect(loaded.queue_url).ping()
    held = pins.unpin(store, project)
    events.add(store, "done", f"unpinned from {found.published_version}", project)
    if held is None:
        say(f"Unpinned. No version was held back: {found.published_version} stays until the next that passes the gate.")
        return
    queues.enqueue(queues.connect(loaded.queue_url), "publish", "publish", project)
    say(f"Unpinned. {held}, which was held back, is published; Label Studio follows in seconds.")
