"""The same store and Valkey as the other tests of the server."""

from ..backend.conftest import connection, settings, store, valkey_url

__all__ = ["connection", "settings", "store", "valkey_url"]
