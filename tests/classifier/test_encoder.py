"""Embeddings: unit rows, independent of the batch, computed once a text, and clear errors for a damaged model."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from mollm.classifier import encoder as module
from mollm.classifier.encoder import Encoder
from mollm.errors import ModelFileError

TEXTS = ["who is the man", "what city", "", "how many of the year is the number in a town", "what city"]


def test_rows_are_unit_and_do_not_depend_on_their_batch(tiny: Path) -> None:
    together = Encoder(tiny).embed(TEXTS)
    assert together.shape == (5, 3, 16)  # of four layers and what they begin with, those from the middle on
    np.testing.assert_allclose(np.linalg.norm(together, axis=(1, 2)), 1, atol=1e-5)
    np.testing.assert_array_equal(together[1], together[4])
    for n, text in enumerate(TEXTS):
        np.testing.assert_allclose(Encoder(tiny).embed([text])[0], together[n], atol=1e-5)


def test_the_cache_answers_without_the_model(tiny: Path, tmp_path: Path) -> None:
    first = Encoder(tiny, tmp_path).embed(TEXTS)
    again = Encoder(tiny, tmp_path)
    np.testing.assert_array_equal(again.embed(TEXTS), first)
    assert again._loaded is None


def test_a_killed_run_keeps_what_it_had(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BATCH", 2)
    killed = Encoder(tiny, tmp_path)
    compute, calls = killed._compute, []

    def die(texts: list[str]) -> list[np.ndarray]:
        calls.append(texts)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return compute(texts)

    monkeypatch.setattr(killed, "_compute", die)
    with pytest.raises(KeyboardInterrupt):
        killed.embed(TEXTS)
    rest = Encoder(tiny, tmp_path)
    asked: list[str] = []
    inner = rest._compute
    monkeypatch.setattr(rest, "_compute", lambda texts: asked.extend(texts) or inner(texts))
    np.testing.assert_allclose(rest.embed(TEXTS), Encoder(tiny).embed(TEXTS), atol=1e-5)
    assert len(asked) == 2
    assert not set(asked) & set(calls[0])


def test_a_missing_or_truncated_model_says_what_to_do(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="fetch it again"):
        Encoder(tmp_path / "nowhere").embed(["who"])
    damaged = tmp_path / "damaged"
    shutil.copytree(tiny, damaged)
    weights = damaged / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size // 2])
    with pytest.raises(ModelFileError, match="cannot be loaded"):
        Encoder(damaged).embed(["who"])


def test_a_damaged_cache_says_what_to_delete(tiny: Path, tmp_path: Path) -> None:
    (tmp_path / "embeddings.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(ModelFileError, match="delete it"):
        Encoder(tiny, tmp_path).embed(["who"])
