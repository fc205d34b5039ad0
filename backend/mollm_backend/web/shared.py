"""What all requests share."""

from __future__ import annotations

from dataclasses import dataclass

import redis

from mollm_backend.settings import Settings
from mollm_backend.store import Store


@dataclass(frozen=True)
class Web:
    """The settings, the open store, and the connection to the queue."""

    settings: Settings
    store: Store
    connection: redis.Redis
