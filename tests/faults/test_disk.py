"""A real small disk: full, read-only, and free again. Each command says so in one line, and nothing is lost."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.faults


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home on a disk of its own, of 4 MB."""
    where = tmp_path / "home"
    where.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", where], capture_output=True, check=False)
    if made.returncode:
        pytest.skip("only root may mount a disk")
    yield where
    subprocess.run(["umount", where], check=True)


def mollm(home: Path, *words: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "mollm_backend.cli", *words]
    done = subprocess.run(
        command, env=os.environ | {"MOLLM_HOME": str(home)}, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr + done.stdout


def fill(home: Path) -> Path:
    path = home / "filling"
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return path


def one_line(told: tuple[int, str], words: str, remedy: str) -> None:
    code, said = told
    assert code == 1
    assert len(said.splitlines()) == 1
    assert words in said
    assert remedy in said


def test_a_disk_that_is_full_or_read_only_and_then_is_not(home: Path) -> None:
    filling = fill(home)
    one_line(mollm(home, "migrate"), "No space left on device", "free some space")  # the first start makes secrets
    filling.unlink()
    assert mollm(home, "migrate")[0] == 0
    kept = (home / "secrets" / "webhook_secret").read_text()

    filling = fill(home)
    one_line(mollm(home, "backup"), "", "free some space")
    assert not list((home / "backups").glob("*")) if (home / "backups").exists() else True
    filling.unlink()
    assert mollm(home, "backup")[0] == 0

    subprocess.run(["mount", "-o", "remount,ro", home], check=True)
    one_line(mollm(home, "backup", str(home / "b.tar")), "", "writable")
    one_line(mollm(home, "up"), "Read-only file system", "make it writable")
    subprocess.run(["mount", "-o", "remount,rw", home], check=True)
    assert mollm(home, "report")[0] == 0
    assert (home / "secrets" / "webhook_secret").read_text() == kept
