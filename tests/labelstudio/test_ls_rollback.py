"""`mollm rollback` on a small project, with every part real; tests/faults does it with 10,000 tasks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.rolling_back import measure
from tests.real_label_studio import executable


@pytest.mark.label_studio
def test_an_earlier_version_comes_back(tmp_path: Path) -> None:
    if not executable().exists():
        pytest.skip(f"no Label Studio at {executable()}: set MOLLM_LABEL_STUDIO to its executable")
    print(f"{measure(tmp_path, 300, pruned=True):.1f} s")
