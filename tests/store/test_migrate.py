"""`mollm migrate`, and stores that this release cannot open."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from mollm.errors import StoreError
from mollm_backend import cli
from mollm_backend.store import Store


def test_it_says_from_which_revision_to_which(url: str, tmp_path: Path) -> None:
    environment = {"MOLLM_HOME": str(tmp_path), "DATABASE_URL": url}
    first, second = (CliRunner().invoke(cli.app, ["migrate", "--json"], env=environment) for _ in range(2))
    told = json.loads(first.stdout)
    assert told["from"] == ""
    assert told["to"] >= "0013"
    assert json.loads(second.stdout)["from"] == told["to"]
    assert "nothing to do" in CliRunner().invoke(cli.app, ["migrate"], env=environment).stdout


def test_a_store_of_a_newer_release_is_refused_by_name(url: str) -> None:
    store = Store(url)
    with store.write() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    store.close()
    with pytest.raises(StoreError, match=r"newer release \(revision 9999"):
        Store(url)
