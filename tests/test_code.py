"""The code keeps its own rules, in `make test` as in `make check`: form, types, and which file may import which."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.slow  # `make check` runs the same commands before its tests
@pytest.mark.parametrize(
    "command", [["ruff", "format", "--check"], ["ruff", "check"], ["mypy"], ["lint-imports"]], ids=" ".join
)
def test_the_rules_are_kept(command: list[str]) -> None:
    name, *rest = command
    done = subprocess.run(
        [Path(sys.executable).parent / name, *rest], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
