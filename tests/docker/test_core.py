"""`pip install .` in an empty environment: the library works, and little else has come with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEN_LINES = """
import numpy as np
from mollm import MixtureClassifier, select

rng = np.random.default_rng(0)
gold = rng.integers(3, size=300)
label_probs = 0.5 * rng.dirichlet(np.ones(3), (300, 4)) + 0.5 * np.eye(3)[gold][:, None] * rng.random((300, 4, 1))
texts = [f"a {['good', 'bad', 'dull'][c]} film" for c in gold]
mixture = MixtureClassifier().fit(label_probs, np.where(np.arange(300) < 50, gold, -1), texts=texts)
probs = mixture.predict_proba(label_probs, texts=texts)
assert len(select(probs, size=50, label_probs=label_probs)) == 50
assert mixture.score(label_probs, gold, texts=texts) > 0.95
"""
CORE = {"mollm", "numpy", "scipy", "scikit-learn", "joblib", "threadpoolctl", "safetensors", "pydantic"}
THEIRS = {"pydantic-core", "annotated-types", "typing-extensions", "typing-inspection", "cloudpickle", "narwhals"}


@pytest.mark.docker
def test_the_core_alone(tmp_path: Path) -> None:
    bin_dir = tmp_path / "venv" / "bin"
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    clean = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    subprocess.run([bin_dir / "pip", "install", "--quiet", ROOT], env=clean, cwd=tmp_path, check=True)
    listed = subprocess.run([bin_dir / "pip", "freeze"], env=clean, capture_output=True, text=True, check=True).stdout
    names = {line.partition("==")[0].partition(" @")[0].lower().replace("_", "-") for line in listed.splitlines()}
    assert names <= CORE | THEIRS
    subprocess.run([bin_dir / "python", "-W", "error", "-c", TEN_LINES], env=clean, cwd=tmp_path, check=True)
    done = subprocess.run([bin_dir / "mollm"], env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'mollm[backend]'" in done.stderr
