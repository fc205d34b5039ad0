"""`mollm rollback` at 10,000 tasks: the earlier batch and pre-annotations are back in less than a minute."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ..real_label_studio import executable
from .installation import load
from .rolling_back import measure

TASKS = int(os.environ.get("MOLLM_ROLLBACK_TASKS", "10000"))


@pytest.mark.faults
@pytest.mark.label_studio
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("pruned", [False, True], ids=["held", "pruned"])
def test_an_earlier_version_is_back_within_a_minute(tmp_path: Path, pruned: bool) -> None:
    if not executable().exists():
        pytest.skip(f"no Label Studio at {executable()}: set MOLLM_LABEL_STUDIO to its executable")
    seconds = measure(tmp_path, TASKS, pruned=pruned)
    kept = "its batch had been pruned" if pruned else "its batch was still there"
    print(f"rollback of {TASKS} tasks ({kept}): {seconds:.1f} s (bar: 60); {load()}")
    assert seconds < 60
