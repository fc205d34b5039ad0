"""`mollm bench fuse`: its figures are of the pools that were asked for, the smallest first."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from mollm_backend.cli import app


@pytest.mark.parametrize("dimensions", [0, 8])
def test_the_bench_prints_seconds_memory_and_the_ratio_an_item(dimensions: int) -> None:
    arguments = ["bench", "fuse", "--items", "800", "--items", "400", "--human", "30", "--labels", "3"]
    done = CliRunner().invoke(app, [*arguments, "--dimensions", str(dimensions), "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.stdout)
    assert list(answer["items"]) == ["400", "800"]
    small, large = answer["items"].values()
    assert small["ratio"] == 1
    assert large["ratio"] == pytest.approx(large["microseconds_an_item"] / small["microseconds_an_item"])
    for row in (small, large):
        assert row["cpu_seconds"] > 0
        assert row["seconds"] > 0
        assert row["peak_mb"] > 50
