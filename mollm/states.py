"""Fitted state in files: arrays in safetensors, facts in JSON. Nothing is pickled: reading runs no code."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from mollm.errors import ModelFileError
from mollm.records import FittedState


def save(directory: Path, states: Mapping[str, FittedState]) -> None:
    """Write each state as `<name>.safetensors` and `<name>.json`; the directory appears whole or not at all."""
    part = directory.with_name(f".{directory.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    for name, state in states.items():
        arrays = {key: np.ascontiguousarray(value) for key, value in state.arrays.items()}
        save_file(arrays, part / f"{name}.safetensors")
        facts = {"kind": state.kind, "facts": dict(state.facts)}
        (part / f"{name}.json").write_text(json.dumps(facts, ensure_ascii=False), encoding="utf-8")
    shutil.rmtree(directory, ignore_errors=True)
    part.rename(directory)


def load(directory: Path) -> dict[str, FittedState]:
    """Read what `save` wrote. Raises ModelFileError where a file is missing or cut short."""
    if not directory.is_dir():
        raise ModelFileError(f"The model files {directory} are missing: fit them again (`mollm train` for a project).")
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
