"""A store of an earlier release opens, keeps all that it held, and is backed up first."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import mollm_backend.store
from mollm.records import LabelSet, Provenance
from mollm_backend.store import Store, changes, labels, projects, versions
from mollm_backend.store.decisions import Decision, Source

OLD_TASK = {
    "control": "label", "object": "text", "field": "a.b", "kind": "Paragraphs", "text_key": "said", "name_key": "who",
    "labels": {"names": ["cat", "d"], "shown": ["cat", "dog"], "descriptions": []},
}  # fmt: skip
PROBS = np.array([0.75, 0.25], dtype="<f4").tobytes()
PANEL = [{"name": "tiny", "fingerprint": "f"}]
ROWS: list[tuple[str, list[dict[str, object]]]] = [
    ("INSERT INTO projects VALUES (7, 'ls', 'Pets', '', '<View/>', :task, :panel, '{}', '{}', true, 'v5', 'b', '', '')",
     [{"task": json.dumps(OLD_TASK), "panel": json.dumps(PANEL)}]),
    ("INSERT INTO tasks VALUES (7, :number, 'h', 'meow', 'k', '', '', NULL)", [{"number": 1}, {"number": 2}]),
    ("INSERT INTO annotations VALUES (7, :number, 1, 1, 'cat', false, 9, 'b', 'cat', 'accepted', '', '', '', NULL)",
     [{"number": 5}, {"number": 6}]),
    ("INSERT INTO predictions VALUES (7, :version, 1, 'k', 'cat', 0.75, :probs, NULL, :negatives)",
     [{"version": f"v{number}", "probs": PROBS, "negatives": '["d"]'} for number in (5, 6)]),
    ("INSERT INTO signals VALUES ('f', :text, :probs, :probs, 0, :truncated, '')",
     [{"text": "short", "probs": PROBS, "truncated": False}, {"text": "long", "probs": PROBS, "truncated": True}]),
]  # fmt: skip


MIGRATIONS = Path(mollm_backend.store.__file__).parent / "migrations"
EARLIER = sorted(path.name[:4] for path in (MIGRATIONS / "versions").glob("0*.py"))[:-1]


@pytest.fixture
def old(url: str, request: pytest.FixtureRequest) -> str:
    """The URL of a database that release 0.1.0 made, with a project, two annotations and two predictions, and that
    releases up to the given migration have opened since."""
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        connection.commit()
    with engine.begin() as connection:
        for statement, values in ROWS:
            connection.execute(sa.text(statement), values)
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, getattr(request, "param", "0001"))
        connection.commit()
    engine.dispose()
    return url


@pytest.mark.parametrize("old", EARLIER, indirect=True)
def test_an_old_store_is_upgraded_with_all_that_it_held(old: str) -> None:
    store = Store(old)
    project = projects.get(store, 7)
    source = Source("text", "a.b", "Paragraphs", "said", "who")
    assert project.decisions == (Decision("label", (source,), LabelSet(("cat", "d"), ("cat", "dog"))),)
    assert project.panel_of(project.decision) == project.panel
    rows = labels.every(store, 7)
    assert [(row.annotation_id, row.label, row.decision, row.provenance) for row in rows] == [
        (5, "cat", "", Provenance.ACCEPTED),
        (6, "cat", "", Provenance.ACCEPTED),
    ]
    assert changes.after(store, 7, 0, 10) == ([2], 1)  # task 1 is predicted by the published version
    assert changes.newest(store, 7) == 1
    assert versions.predicted(store, 7, "v6")[1].negatives == ("d",)
    assert labels.human_labels(rows)[0].label == "cat"
    with store.read() as connection:
        keys = {
            table: set(sa.inspect(connection).get_pk_constraint(table)["constrained_columns"])
            for table in ("annotations", "predictions")
        }
        assert {row["name"] for row in sa.inspect(connection).get_indexes("annotations")} == {"ix_annotations_task"}
    assert keys["annotations"] == {"project_id", "annotation_id", "decision"}
    assert keys["predictions"] == {"project_id", "version", "task_id", "decision"}
    store.close()


def test_what_was_said_of_a_cut_text_is_asked_again_and_nothing_else(old: str) -> None:
    store = Store(old)
    with store.read() as connection:
        assert connection.execute(sa.text("SELECT text_key FROM signals")).scalars().all() == ["short"]
    store.close()


def test_the_old_store_is_kept_beside_it(old: str) -> None:
    Store(old).close()
    kept = sa.make_url(old)
    if kept.get_backend_name() == "sqlite":  # a server's own backups are its keeper's
        with closing(sqlite3.connect(f"{kept.database}.0001.backup")) as raw:
            assert raw.execute("SELECT count(label) FROM annotations").fetchone() == (2,)
            assert json.loads(raw.execute("SELECT label_task FROM projects").fetchone()[0]) == OLD_TASK
    Store(old).close()  # a second start has nothing to do


def test_a_new_store_has_the_tables_that_the_code_reads(url: str) -> None:
    from mollm_backend.store.schema import metadata

    store = Store(url)
    with store.read() as connection:
        inspector = sa.inspect(connection)
        for table in metadata.sorted_tables:
            assert {column["name"] for column in inspector.get_columns(table.name)} == set(table.columns.keys())
            key = set(inspector.get_pk_constraint(table.name)["constrained_columns"])
            assert key == {column.name for column in table.primary_key.columns}
    store.close()
