"""The databases that a store may lie in: SQLite, and PostgreSQL where it is installed or a server is named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of its own."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'mollm.db'}"
        return
    with request.getfixturevalue("postgres").database() as url:
        yield url
