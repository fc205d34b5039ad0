"""`mollm bench select` on a small pool: what it prints, and that the fast picks are the plain ones."""

from __future__ import annotations

import json

from typer.testing import CliRunner

from mollm.lab.plain_strategies import PLAIN
from mollm.strategies import strategies
from mollm_backend.cli import app

SMALL = ["bench", "select", "--items", "300", "--dimensions", "8", "--labelled", "20", "--batch", "10", "--rows", "60"]


def test_it_prints_ratios_and_equal_picks() -> None:
    ran = CliRunner().invoke(app, [*SMALL, "--plain-items", "200", "--json"])
    assert ran.exit_code == 0, ran.output
    answer = json.loads(ran.stdout.strip().splitlines()[-1])
    assert set(answer["strategies"]) == set(strategies())
    for name in PLAIN:
        row = answer["strategies"][name]
        assert row["equal_picks"], name
        assert row["ratio"] > 0
    assert answer["head_retrain"]["rows"] == 60
    assert answer["head_retrain"]["seconds"] > 0


def test_it_prints_a_table() -> None:
    ran = CliRunner().invoke(app, [*SMALL, "--plain-items", "0", "--strategy", "random"])
    assert ran.exit_code == 0, ran.output
    assert "random" in ran.stdout
    assert "a head on 60 rows x 24" in ran.stdout
