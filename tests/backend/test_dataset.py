"""`mollm export --format hf`: a directory that `datasets` reads, checked against the card's own features."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from mollm.records import LabelSet, Provenance
from mollm_backend import cli
from mollm_backend.settings import Settings
from mollm_backend.store import Store, labels, projects, tasks, versions
from mollm_backend.store.decisions import Decision, Source
from mollm_backend.store.labels import Annotation
from mollm_backend.store.tasks import Task
from tests.backend.conftest import add_texts

TYPES = {"int64": int, "string": str}


@pytest.fixture
def made(store: Store, settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Store:
    """40 texts; people labelled 1 to 30, the mixture all but the last, which nobody has."""
    monkeypatch.setenv("MOLLM_HOME", str(settings.home))
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    if settings.database_url:
        monkeypatch.setenv("DATABASE_URL", settings.database_url)
    rows = add_texts(store, 40)
    known = [
        versions.StoredPrediction(row.task_id, row.text_key, "dog", 0.75, np.array([0.25, 0.75])) for row in rows[:-1]
    ]
    versions.save(store, 7, versions.Version("v1", 1, "candidate", 30), known)
    versions.publish(store, 7, "v1")
    labels.upsert(store, 7, [Annotation(n, n, 5, "cat", False, Provenance.EDITED) for n in range(1, 31)])
    tasks.upsert(store, 7, [Task(99, "h", "", problem="empty")])
    return store


def export(*words: str) -> Any:
    return CliRunner().invoke(cli.app, ["export", "7", "--format", "hf", *words])


def read(directory: Path) -> tuple[dict[str, Any], dict[str, list[dict[str, Any]]]]:
    """The card's YAML, and the rows of each split."""
    card = yaml.safe_load((directory / "README.md").read_text().split("---\n")[1])
    files = {part["split"]: directory / part["path"] for part in card["configs"][0]["data_files"]}
    return card, {name: [json.loads(line) for line in path.read_text().splitlines()] for name, path in files.items()}


def check(card: dict[str, Any], rows: list[dict[str, Any]]) -> None:
    """Each row has exactly the card's features, each of its type."""
    features = {row["name"]: row for row in card["dataset_info"]["features"]}
    for row in rows:
        assert list(row) == list(features)
        for name, value in row.items():
            kind = features[name].get("dtype")
            if isinstance(kind, dict):
                names = kind["class_label"]["names"]
                assert list(names) == [str(c) for c in range(len(names))]
                assert value is None or value in names.values()
            elif features[name].get("sequence"):
                assert value is None or (sum(value) == pytest.approx(1) and all(isinstance(p, float) for p in value))
            else:
                assert isinstance(value, TYPES[kind])


def test_every_row_fits_the_card_and_every_text_is_there(made: Store, tmp_path: Path) -> None:
    answer = export("--to", str(tmp_path / "pets"))
    assert answer.exit_code == 0, answer.output
    card, rows = read(tmp_path / "pets")
    assert set(rows) == {"train", "test"}
    everything = sorted((row for split in rows.values() for row in split), key=lambda row: row["task"])
    check(card, everything)
    assert [row["task"] for row in everything] == list(range(1, 41)), "the text that cannot be read is left out"
    assert {row["provenance"] for row in everything[:30]} == {"edited"}
    assert {(row["label"], row["annotator"]) for row in everything[:30]} == {("cat", "5")}
    assert everything[30]["label"] == "dog"
    assert everything[30]["probabilities"] == [0.25, 0.75]
    assert (everything[39]["label"], everything[39]["probabilities"], everything[39]["provenance"]) == (
        None,
        None,
        "none",
    )
    assert {row["version"] for row in everything} == {"v1"}
    assert all(row["split"] == name for name, split in rows.items() for row in split)
    assert {row["provenance"] for row in rows["test"]} == {"edited"}
    assert 1 <= len(rows["test"]) <= 12  # a fifth of 30


def test_a_second_run_writes_the_same_bytes_and_nothing_else_is_overwritten(made: Store, tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        assert export("--to", str(tmp_path / "pets")).exit_code == 0
        files = sorted(path for path in (tmp_path / "pets").rglob("*") if path.is_file())
        found.append({path.name: path.read_bytes() for path in files})
    assert found[0] == found[1]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all my work")
    answer = export("--to", str(tmp_path / "mine"))
    assert answer.exit_code == 1
    assert (tmp_path / "mine" / "thesis.txt").exists()
    assert CliRunner().invoke(cli.app, ["export", "7", "--to", str(tmp_path / "x")]).exit_code == 1


def test_odd_names_and_texts_come_back_as_they_are(made: Store, tmp_path: Path) -> None:
    names = ('yes: a "b"', "- nein", "#4", "null", "été \U0001f600\u2028")
    odd = [Decision(f"one: {n}", (Source("text", "text"),), LabelSet(names), key=f"k{n}") for n in range(2)]
    projects.change(made, 7, decisions=[row.as_json() for row in odd])
    tasks.upsert(made, 7, [Task(1, "h", 'a "text"\n---\nwith\u2028lines, {"json": 1}')])
    rows = [Annotation(1, 1, 5, name, False, Provenance.EDITED, decision=row.key)
            for row, name in zip(odd, names[3:], strict=True)]  # fmt: skip
    labels.upsert(made, 7, rows)
    assert export("--to", str(tmp_path / "odd")).exit_code == 0
    card, found = read(tmp_path / "odd")
    one = next(row for split in found.values() for row in split if row["task"] == 1)
    check(card, [one])
    assert one["text"].endswith('{"json": 1}')
    assert (one["one: 0"], one["one: 1"]) == names[3:]
