"""The same queue, store and project as in `tests/backend`; what rests on the queue runs on Valkey and on Redis."""

from __future__ import annotations

import pytest

from tests.backend.conftest import connection, queue_url, settings, store

from ..queue_server import KINDS

__all__ = ["connection", "queue_url", "settings", "store"]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "queue_url" in metafunc.fixturenames:
        metafunc.parametrize("queue_url", KINDS, indirect=True, scope="session")
