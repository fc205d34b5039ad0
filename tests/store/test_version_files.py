"""Versions' files in an object store: whole or not at all, and what stands in the way is told in one line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mollm import states
from mollm.errors import ConfigError, ModelFileError, StoreError
from mollm.records import FittedState
from mollm_backend import settings
from mollm_backend.store.version_files import VersionFiles


def write(files: VersionFiles, number: float = 1.0) -> str:
    found = states.save(files.of(7, "v1"), {"head": FittedState("head", {"w": np.full(3, number)}, {})})
    files.send(7, "v1")
    return found


def hosts(tmp_path: Path) -> tuple[VersionFiles, VersionFiles, Path]:
    """Two hosts with an object store, and where it lies."""
    url = f"file://{tmp_path / 'store'}"
    return VersionFiles(tmp_path / "one", url), VersionFiles(tmp_path / "two", url), tmp_path / "store"


def test_another_host_reads_what_one_wrote(tmp_path: Path) -> None:
    one, two, _ = hosts(tmp_path)
    one.check()
    written = write(one)
    (one.of(7, "v1") / "pretrained").mkdir()
    (one.of(7, "v1") / "pretrained" / "large.bin").write_bytes(b"x")
    one.send(7, "v1")
    assert states.load(two.fetch(7, "v1"), written)["head"].arrays["w"].tolist() == [1.0, 1.0, 1.0]
    assert sorted(path.name for path in two.of(7, "v1").iterdir()) == ["head.json", "head.safetensors"]
    assert [path.name for path in two.directory.glob("7/*")] == ["v1"], "no part is left"


def test_a_copy_is_read_without_the_object_store(tmp_path: Path) -> None:
    one, two, there = hosts(tmp_path)
    written = write(one)
    two.fetch(7, "v1")
    there.rename(tmp_path / "away")
    assert states.load(two.fetch(7, "v1"), written)


def test_a_version_that_is_not_there_is_told_as_missing(tmp_path: Path) -> None:
    one, _, _ = hosts(tmp_path)
    with pytest.raises(ModelFileError, match="are missing"):
        states.load(one.fetch(7, "v9"))
    assert not one.of(7, "v9").exists()


def test_a_file_that_was_changed_there_is_refused(tmp_path: Path) -> None:
    one, two, there = hosts(tmp_path)
    written = write(one)
    (there / "versions" / "7" / "v1" / "head.json").write_text('{"kind": "head", "facts": {"other": 1}}')
    with pytest.raises(ModelFileError, match="not as they were written"):
        states.load(two.fetch(7, "v1"), written)


def test_a_large_file_goes_here_and_there(tmp_path: Path) -> None:
    one, _, there = hosts(tmp_path)
    write(one)
    one.drop(7, "v1", "head.safetensors")
    one.drop(7, "v1", "head.safetensors")
    assert not (one.of(7, "v1") / "head.safetensors").exists()
    assert not (there / "versions" / "7" / "v1" / "head.safetensors").exists()


def test_what_stands_in_the_way_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"MOLLM_SHARED cannot be used .*install fsspec with the package"):
        VersionFiles(tmp_path, "nonsense://bucket").check()
    (tmp_path / "file").write_text("no directory")
    with pytest.raises(StoreError, match=r"MOLLM_SHARED .* cannot be written"):
        VersionFiles(tmp_path, f"file://{tmp_path / 'file'}").check()
    VersionFiles(tmp_path).check()  # no object store: nothing to look at


def test_an_object_store_holds_no_secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOLLM_SHARED", f"file://{tmp_path / 'store'}")
    monkeypatch.setenv("MOLLM_BASIC_AUTH_PASSWORD", "one")
    with pytest.raises(ConfigError, match="set MOLLM_WEBHOOK_SECRET to the same value on all hosts"):
        settings.load(tmp_path / "home")
    monkeypatch.setenv("MOLLM_WEBHOOK_SECRET", "two")
    loaded = settings.load(tmp_path / "home")
    assert loaded.versions_dir == tmp_path / "home" / "versions"
    assert loaded.shared_url.startswith("file://")
