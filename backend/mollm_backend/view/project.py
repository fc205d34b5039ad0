"""A stand-in."""

from __future__ import annotations

from typing import Any

import redis

from mollm_backend.store import Store
from mollm_backend.store.projects import Project


def state(store: Store, connection: redis.Redis, project: Project) -> dict[str, Any]:
    """Stand-in."""
    del store, connection
    return {
        "project": {"id": project.id, "title": project.title, "url": project.url, "version": project.published_version}
    }
