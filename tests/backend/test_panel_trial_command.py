"""`mollm panel test`: each LLM is asked for a few texts; one that cannot be asked is one line, and the others go on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result
from typer.testing import CliRunner

from mollm import recording
from mollm.records import Item, LabelSet, Signals
from mollm_backend import packages
from mollm_backend.cli import app
from mollm_backend.packages import Package

LABELS = LabelSet(("money", "sports"))
TEXTS = tuple(f"text {n}" for n in range(8))
GOLD = ("sports", "money") * 4
GOOD = "good", np.array([[0.1, 0.9], [0.9, 0.1]] * 4)
SAME = "same", np.array([[0.8, 0.2]] * 8)
# Each cannot be asked for another reason: a name that no package has, a server that is down, a model that nobody has.
BAD = {
    "absent": 'runtime = "llama_cpp"\nmodel = "none.gguf"',
    "down": 'runtime = "openai"\nmodel = "m"\nurl = "http://127.0.0.1:9"',
    "unfetched": 'runtime = "llama_cpp"\nmodel = "gone"',
    "full": 'runtime = "transformers"\nmodel = "huge"',
}
REASONS = {
    "absent": "gives no GGUF file for llama.cpp",
    "down": "cannot be reached",
    "unfetched": "pip could not fetch mollm-no-such-package",
    "full": "needs 1000000.0 GB",
}


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MOLLM_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MOLLM_PANEL", raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    known = {
        "gone": Package(("mollm-no-such-package==1.0",), "1 kB", gguf="x", as_it_is=True),
        "huge": Package(("mollm-no-such-package==1.0",), "1 PB", gguf="x", disk=1e15),
    }
    monkeypatch.setattr(packages, "PACKAGES", known)
    monkeypatch.setattr("mollm_backend.supervisor.llama_cpp.install", lambda home, tell: None)
    items = tuple(Item(str(n), text) for n, text in enumerate(TEXTS))
    probs = np.stack([GOOD[1], SAME[1]], axis=1)
    signals = Signals(tuple(item.id for item in items), ("good", "same"), LABELS.names, probs, probs)
    saved = recording.Recording("r", LABELS, items, signals, np.full(8, -1), 10, 0.7, 0.9)
    recording.save(tmp_path / "r", saved)
    lines = ("text,label\n", *(f"{text},{label}\n" for text, label in zip(TEXTS, GOLD, strict=True)))
    (tmp_path / "texts.csv").write_text("".join(lines))
    return tmp_path / "texts.csv"


def run(file: Path, *words: str, **more: str) -> Result:
    panel = file.with_name("panel.toml")
    recorded = f'runtime = "recording"\nmodel = "{file.with_name("r")}"'
    members = {"good": recorded, "same": recorded, **more}
    panel.write_text("".join(f'[[annotators]]\nname = "{name}"\n{rest}\n' for name, rest in members.items()))
    done = CliRunner().invoke(app, ["panel", "test", str(panel), "--file", str(file), *words])
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done


def test_each_is_tried_and_what_is_odd_is_said(file: Path) -> None:
    found = {row["name"]: row for row in json.loads(run(file, "--json").stdout)["members"]}
    assert (found["good"]["right"], found["good"]["known"], found["good"]["odd"]) == (8, 8, [])
    assert found["same"]["right"] == 4
    assert found["same"]["odd"][0] == "says 'money' of 8 of 8 texts"
    assert found["good"]["agreement"] == found["same"]["agreement"] == 0.5
    shown = run(file).stdout
    assert "8 of 8" in shown
    assert "same: says 'money' of 8 of 8 texts" in shown


def test_so_many_are_drawn_the_same_ones_again(file: Path) -> None:
    first, again = (json.loads(run(file, "--texts", "5", "--json").stdout)["members"][0] for _ in range(2))
    assert first["texts"] == 5
    assert first["known"] == again["known"] == 5


@pytest.mark.parametrize("name", list(BAD))
def test_one_that_cannot_be_asked_is_one_line_and_the_others_go_on(file: Path, name: str) -> None:
    done = run(file, "--json", **{name: BAD[name]})
    assert done.exit_code == 0
    told = json.loads(done.stdout)
    assert [row["name"] for row in told["members"]] == ["good", "same"]
    (failed,) = told["failed"]
    assert failed["name"] == name
    assert REASONS[name] in failed["why"]
    assert "\n" not in failed["why"]
    shown = run(file, **{name: BAD[name]}).stdout
    assert sum(line.startswith(f"{name} could not be asked: ") for line in shown.splitlines()) == 1
