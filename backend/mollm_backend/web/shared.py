"""What all requests share."""

from __future__ import annotations

from dataclasses import dataclass

import redis
from werkzeug.exceptions import NotFound

from mollm_backend.settings import Settings
from mollm_backend.store import Store, projects
from mollm_backend.store.projects import Project

MOST = 2**31  # no project has such a number, and a database would fail on a longer one


@dataclass(frozen=True)
class Web:
    """The settings, the open store, and the connection to the queue."""

    settings: Settings
    store: Store
    connection: redis.Redis

    def project(self, number: int) -> Project:
        """The project of an address. Raises NotFound, which says what to do."""
        found = projects.find(self.store, number) if number < MOST else None
        if found is None:
            raise NotFound(f"Project {number} is not connected: run `mollm connect {number}`.")
        return found
