"""The same Valkey, store and project as in `tests/backend`."""

from __future__ import annotations

from tests.backend.conftest import connection, settings, store, valkey_url

__all__ = ["connection", "settings", "store", "valkey_url"]
