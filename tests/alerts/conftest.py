"""The same store and Valkey as the other tests of the server."""

from ..backend.conftest import connection, queue_url, settings, store

__all__ = ["connection", "queue_url", "settings", "store"]
