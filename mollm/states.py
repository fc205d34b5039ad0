"""Fitted state in files: arrays in safetensors, facts in JSON. Nothing is pickled: reading runs no code."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from uuid import uuid4

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from mollm.errors import ModelFileError
from mollm.records import FittedState, digest


def save(directory: Path, states: Mapping[str, FittedState]) -> str:
    """Write each state as `<name>.safetensors` and `<name>.json`; the directory appears whole or not at all.

    Returns the digest of all that was written, by which `load` recognises it. Several hosts may write the same.
    """
    part = directory.with_name(f".{directory.name}.{uuid4().hex}.part")
    part.mkdir(parents=True)
    for name, state in states.items():
        arrays = {key: np.ascontiguousarray(value) for key, value in state.arrays.items()}
        save_file(arrays, part / f"{name}.safetensors")
        facts = {"kind": state.kind, "facts": dict(state.facts)}
        (part / f"{name}.json").write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")
    found = digest_of(part)
    if directory.is_dir() and digest_of(directory) == found:
        shutil.rmtree(part)
        return found
    shutil.rmtree(directory, ignore_errors=True)
    part.rename(directory)
    return found


def digest_of(directory: Path) -> str:
    """SHA-256 over the names and contents of the files that `save` wrote."""
    files = sorted(path for path in directory.glob("*.*") if path.is_file())
    return digest(*(f"{path.name} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files))


def load(directory: Path, expected: str = "") -> dict[str, FittedState]:
    """Read what `save` wrote, and returned as `expected` where that is known.

    Raises ModelFileError where a file is missing, cut short or changed.
    """
    if not directory.is_dir():
        raise ModelFileError(f"The model files {directory} are missing: fit them again (`mollm train` for a project).")
    if expected and digest_of(directory) != expected:
        raise ModelFileError(
            f"The model files {directory} are not as they were written: fit them again (`mollm train` for a project)."
        )
    states = {}
    for name in sorted({path.stem for path in directory.glob("*.*")}):  # a file whose other half is missing is told of
        try:
            facts = json.loads((directory / f"{name}.json").read_text(encoding="utf-8"))
            states[name] = FittedState(facts["kind"], load_file(directory / f"{name}.safetensors"), facts["facts"])
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            raise ModelFileError(
                f"The model file {directory / name} cannot be read ({error}): fit it again (`mollm train`)."
            ) from None
    if not states:
        raise ModelFileError(f"There is no model file in {directory}: fit it again (`mollm train` for a project).")
    return states
