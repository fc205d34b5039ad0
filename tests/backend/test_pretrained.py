"""The files of a tuned version: written by its training, loaded by transformers alone, and few versions keep them."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import redis

from mollm import states
from mollm.errors import ModelFileError
from mollm.records import FittedState, Provenance
from mollm.round import run, tuning
from mollm_backend import jobs
from mollm_backend.jobs import predicting, pretrained, training
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.settings import Settings
from mollm_backend.store import Store, labels, projects, signals, tasks, versions
from mollm_backend.store.labels import Annotation
from mollm_backend.store.signals import Cost, SignalRow
from mollm_backend.store.tasks import Task
from mollm_backend.store.version_files import VersionFiles
from tests.tiny_encoder import tiny

from .conftest import PANEL

__all__ = ["tiny"]

WORDS = ("what is the name", "who is the man in the city")


def label(store: Store, *task_ids: int) -> None:
    rows = [Annotation(n, n, 1, ("cat", "dog")[n % 2], False, Provenance.FROM_SCRATCH) for n in task_ids]
    labels.upsert(store, 7, rows)


@pytest.mark.slow
def test_a_tuned_training_leaves_a_directory_that_transformers_loads(
    settings: Settings, store: Store, connection: redis.Redis, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformers = pytest.importorskip("transformers")
    monkeypatch.setattr(tuning, "ENOUGH", 20)
    (settings.home / "models").mkdir(exist_ok=True)
    (settings.home / "models" / settings.encoder).symlink_to(tiny)
    runtime, kept, save = Runtime(settings, store, connection), dict[str, FittedState](), states.save
    jobs.install(runtime)
    monkeypatch.setattr(states, "save", lambda directory, saved: kept.update(saved) or save(directory, saved))
    rows = [Task(n, f"hash-{n}", f"{WORDS[n % 2]} {n}") for n in range(60)]
    tasks.upsert(store, 7, rows)
    unsure = np.array([0.5, 0.5])
    for member in PANEL:
        answers = [SignalRow(task.item.text_key, unsure, unsure) for task in rows]
        signals.save(store, member, 7, answers, Cost(calls=1, texts=60))
    projects.change(store, 7, options={"loop": {"classifier": "top", "aggregator": "logpool"}})
    label(store, *range(40))
    first = training.train(runtime, projects.get(store, 7), "a test")
    label(store, *range(40, 50))
    second = training.train(runtime, projects.get(store, 7), "a test")
    directory = settings.versions_dir / "7" / second.id / pretrained.NAME
    model = transformers.AutoModel.from_pretrained(directory)
    assert model.config.id2label == {0: "cat", 1: "dog"}
    assert transformers.AutoTokenizer.from_pretrained(directory)("who is the man")["input_ids"]
    card = (directory / "README.md").read_text()
    assert "human labels: 50" in card
    assert "accuracy, cross-fitted on the human labels" in card
    assert any("tuned layers, averaged with the mixture" in note for note in second.facts["notes"])
    assert any("as the last rounds taught on 40 labels" in note for note in second.facts["notes"])
    assert any("no learning curve yet" in note for note in first.facts["notes"])

    again = Runtime(settings, Store(settings.store_url), connection)
    found = states.load(settings.versions_dir / "7" / second.id)
    assert "tuned" in found
    said = predicting.predictions_of(again, projects.get(again.store, 7), second, found, rows)
    panel = signals.load(store, projects.get(store, 7), rows)
    in_memory = run.predict(kept, [task.item for task in rows], panel, runtime.encoder())
    np.testing.assert_allclose([row.probs for row in said], in_memory, atol=1e-5)
    stored = versions.predicted(store, 7, second.id)
    assert np.mean([row.label == stored[row.task_id].label for row in said]) > 0.9


def test_only_the_newest_versions_and_the_named_ones_keep_their_files(tmp_path: Path) -> None:
    for n in range(6):
        directory = tmp_path / "7" / f"v{n}" / pretrained.NAME
        directory.mkdir(parents=True)
        (directory.parent / "tuned.safetensors").write_bytes(b"weights")
        (directory.parent / "tuned.json").write_text('{"kind": "top", "facts": {}}')
        os.utime(directory, (n, n))
    pretrained.thin_out(VersionFiles(tmp_path), 7, {"v0"})
    assert sorted(path.parent.name for path in tmp_path.glob(f"7/*/{pretrained.NAME}")) == ["v0", "v3", "v4", "v5"]
    assert (tmp_path / "7" / "v0" / "tuned.safetensors").exists()
    assert not (tmp_path / "7" / "v1" / "tuned.safetensors").exists()
    with pytest.raises(ModelFileError, match="mollm train"):
        states.load(tmp_path / "7" / "v1")
