"""`mollm bench annotate`: one pass, T samples and the published code's way, from one run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mollm_backend.cli import app
from tests.annotators.fake_server import FakeServer
from tests.annotators.listening import listening
from tests.annotators.tiny_model import make_tiny_model

pytestmark = pytest.mark.slow


def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> dict[str, float]:
    pytest.importorskip("torch", reason="the reference's way needs mollm[torch]")
    monkeypatch.setenv("MOLLM_HOME", str(tmp_path / "home"))
    make_tiny_model(tmp_path / "home" / "models" / "tiny")
    lines = (f"all about {('sports', 'money')[n % 2]} {n},{('sports', 'money')[n % 2]}" for n in range(10))
    (tmp_path / "texts.csv").write_text("text,label\n" + "\n".join(lines))
    common = ("--file", tmp_path / "texts.csv", "--texts", 6, "--samples", 3, "--reference", "tiny",
              "--reference-texts", 2, "--json")  # fmt: skip
    result = CliRunner().invoke(app, ["bench", "annotate", *map(str, (*arguments, *common))])
    assert result.exit_code == 0, result.output
    return dict(json.loads(result.stdout.strip().splitlines()[-1]))


def check(found: dict[str, float]) -> None:
    assert (found["texts"], found["reference_texts"], found["samples"]) == (6, 2, 3)
    score, sample = found["score_texts_per_second"], found["sample_texts_per_second"]
    assert found["ratio"] == pytest.approx(score / sample)
    assert found["ratio_to_reference"] == pytest.approx(score / found["reference_texts_per_second"])


def test_a_server_against_samples_and_the_reference(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeServer()
    with listening(0, fake) as port:
        found = bench(tmp_path, monkeypatch, "--endpoint", f"http://127.0.0.1:{port}")
    check(found)
    assert "logprob_token_ids" in str(found["score_way"])
    assert found["compared"] == 6
    assert 0 <= found["mean_total_variation"] <= 1


def test_in_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = bench(tmp_path, monkeypatch, "--model", "tiny")
    check(found)
    assert "score by labels" in str(found["score_way"])


def test_neither_server_nor_model_is_wrong_usage() -> None:
    assert CliRunner().invoke(app, ["bench", "annotate"]).exit_code != 0
