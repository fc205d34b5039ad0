"""The files of versions: in a directory that all hosts see, or in an object store, of which each host keeps a copy of
what it has read or written."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any
from uuid import uuid4

from mollm.errors import ConfigError, StoreError


class VersionFiles:
    """`directory`: where the files lie on this host. `url`: the object store's address, as fsspec reads it; "": none,
    and all hosts see the directory. A version's name is `<project>/<version>`."""

    def __init__(self, directory: Path, url: str = "") -> None:
        self.directory = directory
        self._url = url.rstrip("/")

    def of(self, project_id: int, version: str) -> Path:
        """Where a version's files lie on this host, or will."""
        return self.directory / str(project_id) / version

    def fetch(self, project_id: int, version: str) -> Path:
        """The same, once what the object store holds of it is here. Raises ConfigError, StoreError."""
        here = self.of(project_id, version)
        if self._url and not here.is_dir():
            with self._told("read"):
                self._get(f"{self._root}/versions/{project_id}/{version}", here)
        return here

    def send(self, project_id: int, version: str) -> None:
        """Bring a version's files, as `mollm.states` wrote them, into the object store: before the store names the
        version, so that who knows its name finds them. Raises ConfigError, StoreError."""
        if self._url:
            with self._told("written"):
                there = f"{self._root}/versions/{project_id}/{version}"
                self._system.makedirs(there, exist_ok=True)
                for path in _files(self.of(project_id, version)):
                    self._system.put_file(str(path), f"{there}/{path.name}")

    def drop(self, project_id: int, version: str, name: str) -> None:
        """Delete one file of a version, here and in the object store. Raises ConfigError, StoreError."""
        (self.of(project_id, version) / name).unlink(missing_ok=True)
        there = f"/versions/{project_id}/{version}/{name}"
        if self._url:
            with self._told("written"):
                if self._system.exists(self._root + there):
                    self._system.rm_file(self._root + there)

    def check(self) -> None:
        """Raise ConfigError or StoreError unless the object store, where there is one, can be written and read."""
        if self._url:
            with self._told("written"):
                probe = f"{self._root}/versions/.{uuid4().hex}"
                self._system.makedirs(f"{self._root}/versions", exist_ok=True)
                self._system.pipe_file(probe, b"mollm")
                self._system.rm_file(probe)

    def _get(self, there: str, here: Path) -> None:
        if not self._system.exists(there):
            return
        part = here.with_name(f".{here.name}.{uuid4().hex}.part")
        part.mkdir(parents=True)
        for found in self._system.find(there, maxdepth=1):
            self._system.get_file(found, str(part / found.rsplit("/", 1)[1]))
        if here.is_dir():  # another process of this host was first
            shutil.rmtree(part)
        else:
            part.rename(here)

    @cached_property
    def _opened(self) -> tuple[Any, str]:
        try:
            import fsspec

            system, root = fsspec.core.url_to_fs(self._url)
        except (ImportError, ValueError) as error:
            raise ConfigError(
                f"MOLLM_SHARED cannot be used ({error}): install fsspec with the package for this kind of address "
                "(s3fs for s3://, gcsfs for gs://), or set a directory that all hosts see."
            ) from None
        return system, str(root).rstrip("/")

    @property
    def _system(self) -> Any:
        return self._opened[0]

    @property
    def _root(self) -> str:
        return self._opened[1]

    @contextmanager
    def _told(self, what: str) -> Iterator[None]:
        """Each kind of object store has errors of its own."""
        try:
            yield
        except (ConfigError, StoreError):
            raise
        except Exception as error:
            raise StoreError(
                f"MOLLM_SHARED ({self._url}) cannot be {what} ({type(error).__name__}: {error}): look whether it is "
                "there and whether this host may."
            ) from error


def _files(directory: Path) -> list[Path]:
    """The state's files; a version's other forms lie in directories beside them."""
    return sorted(path for path in directory.glob("*.*") if path.is_file())
