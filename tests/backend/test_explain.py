"""`mollm explain` and `mollm next-batch`: nothing is cut, places count from 1, and a batch is not its reserve."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mollm.records import LabelSet
from mollm_backend import cli
from mollm_backend.cli import terminal
from mollm_backend.store import Store, batches, projects, tasks, versions
from mollm_backend.store.batches import StoredEntry
from mollm_backend.store.decisions import Decision, Source
from mollm_backend.store.tasks import Task

from .conftest import add_texts

LONG = "a complaint about [red]delivery[/red] " * 8


@pytest.fixture
def home(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("MOLLM_HOME", str(tmp_path))
    monkeypatch.setenv("REDIS_URL", "unix:///nowhere.sock")
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setattr(terminal.console, "_width", 80)
    rows = add_texts(store, 30)
    said = [versions.StoredPrediction(row.task_id, row.item.text_key, "dog", 0.7, np.array([0.3, 0.7])) for row in rows]
    versions.save(store, 7, versions.Version("v1", 0, "candidate", 0), said)
    entries = [StoredEntry(n, n - 1, "v1", "dog", 0.7, f"reason {n}") for n in range(1, 31)]
    batches.save(store, 7, "v1+batch-1", entries)
    versions.publish(store, 7, "v1", "v1+batch-1")
    projects.change(store, 7, options={"batch_size": 10})
    return store


def told(*words: str) -> str:
    done = CliRunner().invoke(cli.app, list(words), catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_each_says_its_word_and_how_sure_it_is_of_every_label(home: Store) -> None:
    said = told("explain", "7", "1")
    tiny = next(line for line in said.splitlines() if "tiny" in line)
    assert tiny.split()[1:] in (["dog", "80.0%;", "cat", "20.0%"], ["cat", "80.0%;", "dog", "20.0%"])
    assert "  mixture     dog 70.0%; cat 30.0%" in said
    assert "classifier  no opinion yet" in said


def test_places_count_from_one_and_the_reserve_stands_behind(home: Store) -> None:
    assert "Next batch: place 1 of 10. reason 1" in told("explain", "7", "1")
    assert "Next batch: place 10 of 10. reason 10" in told("explain", "7", "10")
    assert "Next batch: not among its 10, but place 1 of the 20 behind it. reason 11" in told("explain", "7", "11")
    shown = json.loads(told("explain", "7", "11", "--json"))["batch"]
    assert (shown["place"], shown["of"], shown["size"]) == (11, 30, 10)


def test_a_long_label_is_not_cut_and_has_its_word_beside_it(home: Store) -> None:
    asked = Decision("label", (Source("text", "text"),), LabelSet((LONG, "dog"), ("complaint", "hound")))
    projects.change(home, 7, decisions=[asked.as_json()])
    said = told("explain", "7", "1")
    assert LONG in said
    assert "mixture     hound (label dog) 70.0%; " in said
    tasks.upsert(home, 7, [Task(99, "hash-99", "not read yet")])
    said = told("explain", "7", "99")
    assert "tiny        has not read it, or gave no usable answer" in said
    assert "Next batch: not in it" in said


def test_the_next_batch_is_shown_without_its_reserve(home: Store) -> None:
    said = told("next-batch", "7")
    assert "v1+batch-1: 10 tasks" in said
    assert "reason 10" in said
    assert "reason 11" not in said
    assert "20 more stand behind them in reserve: `mollm next-batch 7 --all`." in said
    assert "reason 30" in told("next-batch", "7", "--all")
    assert len(json.loads(told("next-batch", "7", "--json"))) == 30
