"""A backup made while writers write holds one moment; it comes back whole or is refused, in both databases."""

from __future__ import annotations

import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from mollm import states
from mollm.errors import StoreError
from mollm.records import FittedState
from mollm_backend import cli
from mollm_backend.store import Store, backup, events, projects, tasks, versions
from mollm_backend.store.projects import Project
from mollm_backend.store.tasks import Task
from mollm_backend.store.version_files import VersionFiles
from mollm_backend.store.versions import StoredPrediction, Version
from tests.backend.conftest import CAT_DOG, CONFIG, PANEL


def add_version(store: Store, where: Path, number: int) -> None:
    """A version with one prediction of each of ten tasks, and its files, as a training writes them."""
    name = f"v{number}"
    state = FittedState("head", {"weights": np.full((2, 3), float(number))}, {})
    states.save(where / "7" / name, {"head": state})
    rows = [StoredPrediction(n, f"k{n}", "cat", 0.5, np.array([0.5, 0.5])) for n in range(10)]
    versions.save(store, 7, Version(name, number, "candidate", number), rows)


@pytest.fixture
def filled(url: str, tmp_path: Path) -> Store:
    store = Store(url)
    projects.save(store, Project(7, "http://ls", "Pets", "2026-01-01", CONFIG, CAT_DOG, PANEL))
    tasks.upsert(store, 7, [Task(n, f"h{n}", f"meow {n} \u2603") for n in range(10)])
    add_version(store, tmp_path / "versions", 0)
    return store


def consistent(store: Store, where: Path) -> int:
    """Each version has its ten predictions and its files; returns how many versions there are."""
    found = versions.every(store, 7)
    for row in found:
        assert len(versions.predicted(store, 7, row.id)) == 10
        assert states.load(where / "7" / row.id)["head"].arrays["weights"][0, 0] == row.round
    # Written in one transaction each: as many lines as notes.
    assert len(events.newest(store, 100_000)) == len(tasks.every(store, 7)) - 10
    return len(found)


def write(store: Store, where: Path, stop: threading.Event) -> None:
    number = 0
    while not stop.is_set():
        number += 1
        add_version(store, where, number)
        with store.write() as connection:
            row = {"project_id": 7, "task_id": 1000 + number, "data_hash": "h", "text": "x" * 5000, "text_key": "k",
                   "problem": "", "updated_at": "", "changed": 0}  # fmt: skip
            tasks_, events_ = (sa.table(name, *map(sa.column, keys)) for name, keys in (
                ("tasks", row), ("events", ("at", "project_id", "kind", "line"))))  # fmt: skip
            connection.execute(tasks_.insert().values(row))
            connection.execute(events_.insert().values(at="2026", project_id=7, kind="info", line=str(number)))


def test_what_is_taken_while_writers_write_is_one_moment_and_comes_back(
    filled: Store, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    stop, where = threading.Event(), tmp_path / "versions"
    writer = threading.Thread(target=write, args=(filled, where, stop))
    writer.start()
    try:
        made = [backup.make(filled, VersionFiles(where), tmp_path / f"b{n}.tar") for n in range(4)]
    finally:
        stop.set()
        writer.join()
    assert all(not one.missing for one in made)
    counts = []
    for n in range(4):
        new = tmp_path / f"home{n}"
        new.mkdir()
        backup.restore(tmp_path / f"b{n}.tar", f"sqlite:///{new / 'mollm.db'}", VersionFiles(new / "versions"))
        opened = Store(f"sqlite:///{new / 'mollm.db'}")
        counts.append(consistent(opened, new / "versions"))
        assert (new / "mollm.db").stat().st_mode & 0o777 == 0o600
        opened.close()
    assert counts == sorted(counts)
    assert (tmp_path / "b0.tar").stat().st_mode & 0o777 == 0o600
    # Into a server as well, whatever it came from; and new rows are numbered after the old ones.
    with request.getfixturevalue("postgres").database() as other:
        backup.restore(tmp_path / "b3.tar", other, VersionFiles(tmp_path / "elsewhere"))
        opened = Store(other)
        assert consistent(opened, tmp_path / "elsewhere") == counts[3]
        before = events.newest(opened, 1)[0].id if events.newest(opened, 1) else 0
        events.add(opened, "info", "after", 7)
        assert events.newest(opened, 1)[0].id > before
        with pytest.raises(StoreError, match=r"holds 1 projects and .* say --force"):
            backup.restore(tmp_path / "b0.tar", other, VersionFiles(tmp_path / "elsewhere"))
        backup.restore(tmp_path / "b0.tar", other, VersionFiles(tmp_path / "elsewhere"), force=True)
        assert len(versions.every(opened, 7)) == counts[0]
        opened.close()
    filled.close()


def test_a_full_store_or_a_damaged_one_is_replaced_only_by_force_and_kept(tmp_path: Path) -> None:
    url, where = f"sqlite:///{tmp_path / 'mollm.db'}", tmp_path / "versions"
    store = Store(url)
    projects.save(store, Project(7, "http://ls", "Pets", "2026-01-01", CONFIG, CAT_DOG, PANEL))
    file = tmp_path / "b.tar"
    backup.make(store, VersionFiles(where), file)
    store.close()
    with pytest.raises(StoreError, match="--force"):
        backup.restore(file, url, VersionFiles(where))
    (tmp_path / "mollm.db").write_bytes(b"no database" * 1000)
    with pytest.raises(StoreError, match=r"cannot be read .* say --force"):
        backup.restore(file, url, VersionFiles(where))
    backup.restore(file, url, VersionFiles(where), force=True)
    again = Store(url)
    assert projects.get(again, 7).title == "Pets"
    again.close()
    (kept,) = tmp_path.glob("mollm.db.before-*")
    assert kept.read_bytes().startswith(b"no database")


@pytest.mark.parametrize("how", ["cut", "changed", "file gone", "text"])
def test_a_damaged_backup_is_refused_and_changes_nothing(tmp_path: Path, how: str) -> None:
    where, file = tmp_path / "versions", tmp_path / "b.tar"
    store = Store(f"sqlite:///{tmp_path / 'mollm.db'}")
    projects.save(store, Project(7, "http://ls", "Pets", "2026-01-01", CONFIG, CAT_DOG, PANEL))
    add_version(store, where, 0)
    backup.make(store, VersionFiles(where), file)
    raw = file.read_bytes()
    if how == "cut":
        file.write_bytes(raw[: len(raw) // 2])
    elif how == "changed":
        at = raw.index(b"head.safetensors") + 512
        file.write_bytes(raw[: at + 100] + bytes([raw[at + 100] ^ 1]) + raw[at + 101 :])
    elif how == "text":
        file.write_text("hello")
    else:
        with tarfile.open(file) as given, tarfile.open(tmp_path / "less.tar", "w") as less:
            for member in given:
                if "safetensors" not in member.name:
                    less.addfile(member, given.extractfile(member))
        (tmp_path / "less.tar").replace(file)
    with pytest.raises(StoreError, match="damaged"):
        backup.check(file)
    new = tmp_path / "new"
    with pytest.raises(StoreError, match="damaged"):
        backup.restore(file, f"sqlite:///{new / 'mollm.db'}", VersionFiles(new / "versions"))
    assert not (new / "mollm.db").exists()
    store.close()


def test_a_backup_holds_what_lies_in_the_object_store(tmp_path: Path) -> None:
    url = f"file://{tmp_path / 'store'}"
    one, two = VersionFiles(tmp_path / "one", url), VersionFiles(tmp_path / "two", url)
    store = Store(f"sqlite:///{tmp_path / 'mollm.db'}")
    try:
        projects.save(store, Project(7, "http://ls", "animals", "", "", ()))
        add_version(store, one.directory, 1)
        one.send(7, "v1")
        made = backup.make(store, two, tmp_path / "b.tar")  # on a host that has never read the version
    finally:
        store.close()
    assert made.missing == []
    elsewhere = VersionFiles(tmp_path / "three", f"file://{tmp_path / 'another'}")
    backup.restore(tmp_path / "b.tar", f"sqlite:///{tmp_path / 'new' / 'mollm.db'}", elsewhere)
    assert states.load(VersionFiles(tmp_path / "four", f"file://{tmp_path / 'another'}").fetch(7, "v1"))


def test_the_commands(tmp_path: Path) -> None:
    run, environment = CliRunner(), {"MOLLM_HOME": str(tmp_path / "one"), "DATABASE_URL": ""}
    (tmp_path / "one").mkdir()
    store = Store(f"sqlite:///{tmp_path / 'one' / 'mollm.db'}")
    projects.save(store, Project(7, "http://ls", "Pets", "2026-01-01", CONFIG, CAT_DOG, PANEL))
    store.close()
    file = str(tmp_path / "b.tar")
    done = run.invoke(cli.app, ["backup", file], env=environment)
    assert "1 projects, 1 files" in done.output
    assert run.invoke(cli.app, ["backup", file], env=environment).exit_code == 1  # it is there
    assert "backups/mollm-" in run.invoke(cli.app, ["backup"], env=environment).output.replace("\n", "")
    assert "is whole" in run.invoke(cli.app, ["restore", file, "--dry-run"], env=environment).output
    other = environment | {"MOLLM_HOME": str(tmp_path / "two")}
    assert "restored" in run.invoke(cli.app, ["restore", file], env=other).output
    assert run.invoke(cli.app, ["restore", file], env=other).exit_code == 1
    assert "restored" in run.invoke(cli.app, ["restore", file, "--force"], env=other).output
    missing = run.invoke(cli.app, ["restore", str(tmp_path / "none")], env=other)
    assert "There is no backup" in str(missing.exception)
