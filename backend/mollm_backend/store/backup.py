"""A backup: one tar file with the whole store as of one moment, the files of its versions, and the hash of each.

The store is kept as a SQLite file, whatever database it came from, so a backup can be restored into either.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib.metadata import version as version_of
from pathlib import Path

import sqlalchemy as sa

from mollm.errors import StoreError
from mollm_backend.store import Store, in_chunks, now, sqlite_file
from mollm_backend.store.schema import metadata, projects, versions
from mollm_backend.store.version_files import VersionFiles

MANIFEST, DATABASE, VERSIONS = "manifest.json", "store.sqlite", "versions"
ROWS = 2000  # of one insert: a text may have 100,000 characters
_SQLITE = b"SQLite format 3\0"  # the first bytes of such a file


@dataclass(frozen=True)
class Manifest:
    """What a backup holds. `files`: the SHA-256 of each; `missing`: versions whose files were not there."""

    release: str
    revision: str
    made_at: str
    projects: int
    files: dict[str, str]
    missing: list[str]


def make(store: Store, version_files: VersionFiles, target: Path) -> Manifest:
    """Write a backup while everything runs; it has its name once it is whole. Raises StoreError, OSError."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with tempfile.TemporaryDirectory(prefix=".backup-", dir=target.parent) as work:
        database, part = Path(work) / DATABASE, Path(work) / "tar"
        _copy_out(store, database)
        with closing(sqlite3.connect(database)) as raw:
            revision = str(raw.execute("SELECT version_num FROM alembic_version").fetchone()[0])
            (count,) = raw.execute("SELECT count(*) FROM projects").fetchone()
            known = raw.execute("SELECT project_id, id FROM versions").fetchall()
        files, missing = {DATABASE: _hash(database)}, []
        part.touch(mode=0o600)  # it holds people's texts
        with tarfile.open(part, "w:gz" if target.suffix == ".gz" else "w") as tar:
            tar.add(database, DATABASE)
            for project, version in known:
                # A version's directory appears whole, before its row: what the store names is there.
                inside = sorted(path for path in version_files.fetch(project, version).rglob("*") if path.is_file())
                if not inside:
                    missing.append(f"{project}/{version}")
                for path in inside:
                    member = f"{VERSIONS}/{path.relative_to(version_files.directory)}"
                    files[member] = _hash(path)
                    tar.add(path, member)
            manifest = Manifest(version_of("mollm"), revision, now(), count, files, missing)
            (Path(work) / MANIFEST).write_text(json.dumps(asdict(manifest), indent=1), encoding="utf-8")
            tar.add(Path(work) / MANIFEST, MANIFEST)
        with part.open("rb") as whole:
            os.fsync(whole.fileno())
        part.replace(target)
    return manifest


def check(file: Path) -> Manifest:
    """Read a backup whole. Raises StoreError where a file in it is cut, changed or missing."""
    with _opened(file, file.parent) as (manifest, _):
        return manifest


def restore(file: Path, url: str, version_files: VersionFiles, *, force: bool = False) -> Manifest:
    """Put a backup in place of a store and its versions' files. Nobody else may have the store open.

    Raises StoreError where the backup is damaged, or where the store holds projects and `force` is not given. With it
    a SQLite file that was there is kept beside the new one.
    """
    version_files.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    with _opened(file, version_files.directory.parent) as (manifest, work):
        known = sa.make_url(url)
        if not force and (count := _projects_in(known)):
            raise StoreError(f"The store at {known.render_as_string()} holds {count}: say --force to replace them.")
        Store(f"sqlite:///{work / DATABASE}").close()  # of an earlier release: brought to this one
        path = sqlite_file.path_of(known)
        _put_files(work / VERSIONS, version_files)
        if path is None:
            _copy_in(work / DATABASE, known)
        else:
            _swap(work / DATABASE, path)
    return manifest


def name(at: datetime | None = None) -> str:
    """The file name of a backup that is made now; in the order of time they sort as text."""
    return f"mollm-{at or datetime.now(UTC):%Y%m%d-%H%M%S}.tar"


def directory(store: Store, shared: Path) -> Path:
    """Where the backups of a store lie that workers make: beside its file, or in what all hosts share."""
    path = sqlite_file.path_of(store.url)
    return (shared if path is None else path.parent) / sqlite_file.BACKUPS


def kept(where: Path) -> list[Path]:
    """The backups in a directory, the oldest first."""
    return sorted(where.glob("mollm-*.tar"))


def _copy_out(store: Store, target: Path) -> None:
    """The whole store as of one moment, as a SQLite file."""
    target.touch(mode=0o600)
    path = sqlite_file.path_of(store.url)
    if path is not None:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copy:
            source.backup(copy)
        return
    copied = Store(f"sqlite:///{target}")
    try:
        moment = store.engine.execution_options(isolation_level="REPEATABLE READ", stream_results=True)
        with moment.connect() as source:
            _copy_tables(source, copied)
    finally:
        copied.close()


def _copy_in(source: Path, url: sa.URL) -> None:
    """All rows of a SQLite file in place of all rows of a database, in one transaction."""
    target, given = Store(url.render_as_string(hide_password=False)), Store(f"sqlite:///{source}")
    try:
        with given.read() as rows:
            _copy_tables(rows, target)
    finally:
        given.close()
        target.close()


def _copy_tables(source: sa.Connection, target: Store) -> None:
    with target.write() as connection:
        for table in reversed(metadata.sorted_tables):
            connection.execute(table.delete())
        for table in metadata.sorted_tables:
            rows = source.execute(sa.select(table).execution_options(yield_per=ROWS))
            for chunk in in_chunks(rows.mappings(), ROWS):
                connection.execute(table.insert(), [dict(row) for row in chunk])
        if connection.dialect.name == "postgresql":
            _count_on(connection)


def _count_on(connection: sa.Connection) -> None:
    """Let new rows be numbered after those that were copied with their numbers."""
    for table in metadata.sorted_tables:
        column = table.autoincrement_column
        if column is None:
            continue
        where = {"table": table.name, "column": column.name}
        sequence = connection.execute(sa.text("SELECT pg_get_serial_sequence(:table, :column)"), where).scalar()
        highest = connection.execute(sa.select(sa.func.max(column))).scalar()
        if sequence and highest:
            connection.execute(sa.select(sa.func.setval(sequence, highest)))


@contextmanager
def _opened(file: Path, beside: Path) -> Iterator[tuple[Manifest, Path]]:
    """The manifest, and a directory in `beside` with what the backup holds; each file is as it was written.

    The copy of the SQLite file that an upgrade makes is a backup of the store alone.
    """
    if not file.is_file():
        raise StoreError(f"There is no backup {file}.")
    with tempfile.TemporaryDirectory(prefix=".restore-", dir=beside) as made:
        work = Path(made)
        with file.open("rb") as head:
            alone = head.read(len(_SQLITE)) == _SQLITE
        if alone:
            shutil.copyfile(file, work / DATABASE)
            manifest = Manifest("", "", "", 0, {DATABASE: _hash(work / DATABASE)}, [])
        else:
            manifest = _unpacked(file, work)
        (work / DATABASE).chmod(0o600)
        _whole(file, work / DATABASE)
        yield manifest, work


def _unpacked(file: Path, work: Path) -> Manifest:
    try:
        with tarfile.open(file) as tar:
            tar.extractall(work, filter="data")
        manifest = Manifest(**json.loads((work / MANIFEST).read_text(encoding="utf-8")))
        changed = [name for name, digest in manifest.files.items() if _hash(work / name) != digest]
    except (tarfile.TarError, EOFError, KeyError, TypeError, ValueError, FileNotFoundError) as error:
        raise StoreError(f"The backup {file} is damaged ({error}): take another one.") from error
    if changed:
        raise StoreError(f"The backup {file} is damaged ({changed[0]} has changed): take another one.")
    return manifest


def _whole(file: Path, database: Path) -> None:
    """Raise StoreError unless SQLite finds its file whole."""
    try:
        with closing(sqlite3.connect(database)) as raw:
            said = raw.execute("PRAGMA integrity_check(1)").fetchone()[0]
    except sqlite3.DatabaseError as error:
        said = str(error)
    if said != "ok":
        raise StoreError(f"The store in the backup {file} is damaged ({said}): take another one.")


def _projects_in(url: sa.URL) -> str:
    """What a store holds, in words; "" where it is empty or not there."""
    path = sqlite_file.path_of(url)
    if path is not None and (not path.exists() or not path.stat().st_size):
        return ""
    store = Store(url.render_as_string(hide_password=False), migrate=False)
    try:
        with store.read() as connection:
            if not sa.inspect(connection).has_table(projects.name):
                return ""
            count = connection.execute(sa.select(sa.func.count()).select_from(projects)).scalar_one()
            fitted = connection.execute(sa.select(sa.func.count()).select_from(versions)).scalar_one()
    except StoreError as error:
        return f"what cannot be read ({error})"
    finally:
        store.close()
    return f"{count} projects and {fitted} versions" if count else ""


def _put_files(given: Path, version_files: VersionFiles) -> None:
    """Each version's directory, under its name once it is whole."""
    for source in sorted(path for path in given.glob("*/*") if path.is_dir()):
        project, version = int(source.parent.name), source.name
        target = version_files.of(project, version)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        part = target.with_name(f".{target.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(source, part)
        shutil.rmtree(target, ignore_errors=True)
        part.replace(target)
        version_files.send(project, version)


def _swap(source: Path, path: Path) -> None:
    """The new file under the store's name; what was there stays beside it, with its write-ahead log."""
    stamp = f"{datetime.now(UTC):%Y%m%d-%H%M%S}"
    for suffix in ("", "-wal", "-shm"):
        old = path.with_name(path.name + suffix)
        if old.exists():
            old.replace(path.with_name(f"{path.name}.before-{stamp}{suffix}"))
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = path.with_name(f".{path.name}.part")
    shutil.copyfile(source, part)
    part.chmod(0o600)
    part.replace(path)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def prune(where: Path, keep: int) -> Sequence[Path]:
    """Delete all but the newest backups; returns what went."""
    old = kept(where)[:-keep]
    for path in old:
        path.unlink(missing_ok=True)
    return old
