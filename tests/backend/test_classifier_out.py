"""`mollm export --model`: what it writes is loaded by transformers alone, and says what was measured."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mollm.classifier import standard
from mollm.classifier.encoder import Encoder, mean_pool
from mollm.records import LabelSet, Provenance, Targets
from mollm.round import as_model
from mollm_backend import cli
from mollm_backend.settings import Settings
from mollm_backend.store import Store, labels, projects, tasks, versions
from mollm_backend.store.labels import Annotation
from mollm_backend.store.signals import Cost, SignalRow
from mollm_backend.store.signals import save as save_signals
from mollm_backend.store.tasks import Task
from tests.tiny_encoder import tiny

from .conftest import PANEL

__all__ = ["tiny"]
TEXTS = [f"{'what is the name' if n % 2 else 'who is the man in the city'} of {'a ' * (n % 5)}year" for n in range(60)]


def texts(count: int = 60) -> list[str]:
    return TEXTS[:count]


def lesson(H: int = 40) -> as_model.Lesson:
    """Two kinds of text, each with its label; the mixture is right on what nobody labelled."""
    truth = np.arange(60) % 2
    probs = np.where(truth[:, None] == np.arange(2), 0.9, 0.1)
    return as_model.Lesson(("cat", "dog"), texts(), Targets(np.arange(H), truth[:H], np.ones(H)), probs)


@pytest.mark.parametrize("kind", ["Bert", "Roberta"])
def test_the_cast_model_reads_the_mean_of_its_layer(kind: str, tiny: Path, tmp_path: Path) -> None:
    import torch
    import transformers

    tokenizer, model = Encoder(tiny).load()
    if kind == "Roberta":
        torch.manual_seed(1)
        config = transformers.RobertaConfig(
            vocab_size=len(tokenizer), hidden_size=16, num_hidden_layers=4, num_attention_heads=2,
            intermediate_size=32, max_position_embeddings=34, pad_token_id=tokenizer.pad_token_id,
        )  # fmt: skip
        model = transformers.RobertaModel(config).eval()
    made = standard.cast(model, 3, ("a", "b"))
    seen = standard.features(made, tokenizer, texts(8))
    batch = standard.tokens(made, tokenizer, texts(8))
    with torch.inference_mode():
        mean = mean_pool(model(**batch, output_hidden_states=True).hidden_states[3], batch["attention_mask"]).numpy()
    wanted = (mean - mean.mean(axis=1, keepdims=True)) / mean.std(axis=1, keepdims=True)
    np.testing.assert_allclose(seen, wanted, atol=0.02)  # the residual is a thousandth of it
    weight, bias = np.random.default_rng(0).normal(size=(16, 2)), np.array([0.3, -0.2])
    standard.set_head(made, weight, bias)
    with torch.inference_mode():
        np.testing.assert_allclose(made(**batch).logits.numpy(), seen @ weight + bias, atol=1e-3)


def test_transformers_alone_loads_what_is_written_and_a_second_run_writes_the_same(tiny: Path, tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        measured = as_model.write(lesson(), Encoder(tiny), tmp_path / "model", {"project": "Pets"}, 0)
        found.append({path.name: path.read_bytes() for path in (tmp_path / "model").iterdir()})
    assert found[0] == found[1]
    assert {"model.safetensors", "config.json", "tokenizer.json", "README.md", "predict.py"} <= set(found[0])
    assert str(tmp_path).encode() not in b"".join(found[0].values())
    assert str(tiny).encode() not in b"".join(found[0].values())
    assert measured.accuracy > 0.9
    assert measured.agreement > 0.9
    code = (
        "import sys, json, numpy; from transformers import AutoModelForSequenceClassification as M, AutoTokenizer as T;"
        "d, texts = sys.argv[1], json.loads(sys.argv[2]); m, t = M.from_pretrained(d), T.from_pretrained(d);"
        "p = m(**t(texts, padding=True, truncation=True, return_tensors='pt')).logits.softmax(1).tolist();"
        "print(json.dumps([m.config.id2label[str(0)] if '0' in m.config.id2label else m.config.id2label[0], p]));"
        "assert not any(name.startswith('mollm') for name in sys.modules)"
    )
    out = run("-c", code, str(tmp_path / "model"), json.dumps(texts(6)))
    first, probs = json.loads(out.splitlines()[-1])
    assert first == "cat"
    assert [row.index(max(row)) for row in probs] == [0, 1, 0, 1, 0, 1]
    beside = run(str(tmp_path / "model" / "predict.py"), given="\n".join(texts(6)) + "\n")
    rows = [json.loads(line) for line in beside.splitlines()]
    assert [row["label"] for row in rows] == ["cat", "dog"] * 3
    np.testing.assert_allclose([list(row["probabilities"].values()) for row in rows], probs, atol=1e-5)


def test_another_encoder_is_written_with_its_head_beside_it(tiny: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(standard, "possible", lambda _model: False)
    encoder = Encoder(tiny)
    measured = as_model.write(lesson(), encoder, tmp_path / "model", {}, 0)
    assert measured.layer == 0
    again = as_model.write(lesson(), encoder, tmp_path / "again", {}, 0)
    assert again == measured
    for path in (tmp_path / "model").iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    rows = [
        json.loads(line) for line in run(str(tmp_path / "model" / "predict.py"), given="\n".join(texts(4))).splitlines()
    ]
    assert [row["label"] for row in rows] == ["cat", "dog"] * 2
    assert "head.safetensors" in (tmp_path / "model" / "README.md").read_text()


def run(*words: str, given: str = "") -> str:
    """Another Python that knows nothing of mollm."""
    clean = {"PATH": "/usr/bin:/bin", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, *words], input=given, env=clean, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_few_labels_are_not_called_a_measurement(tiny: Path, tmp_path: Path) -> None:
    measured = as_model.write(lesson(5), Encoder(tiny), tmp_path / "model", {}, 0)
    assert "not measured" in (tmp_path / "model" / "README.md").read_text()
    assert "not measured" in measured.lines()[0]
    (tmp_path / "model" / "README.md").write_text("mine")
    with pytest.raises(Exception, match="name another directory"):
        as_model.write(lesson(5), Encoder(tiny), tmp_path / "model", {}, 0)


def test_the_command_writes_the_published_versions_classifier(
    store: Store, settings: Settings, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOLLM_HOME", str(settings.home))
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    answer = CliRunner().invoke(cli.app, ["export", "7", "--model", str(tmp_path / "out")])
    assert answer.exit_code == 1
    (settings.home / "models").mkdir(exist_ok=True)
    shutil.copytree(tiny, settings.home / "models" / settings.encoder)
    rows = [Task(n + 1, f"hash-{n}", text) for n, text in enumerate(texts())]
    tasks.upsert(store, 7, rows)
    for member in PANEL:
        answers = [SignalRow(row.item.text_key, np.array([0.5, 0.5]), np.array([0.5, 0.5])) for row in rows]
        save_signals(store, member, 7, answers, Cost(calls=1, texts=60))
    names = LabelSet(("cat", "dog")).names
    known = [versions.StoredPrediction(row.task_id, row.text_key, names[n % 2], 0.9, np.eye(2)[n % 2] * 0.8 + 0.1)
             for n, row in enumerate(rows)]  # fmt: skip
    versions.save(store, 7, versions.Version("v1", 1, "candidate", 40), known)
    versions.publish(store, 7, "v1")
    labels.upsert(
        store, 7, [Annotation(n + 1, n + 1, 1, names[n % 2], False, Provenance.FROM_SCRATCH) for n in range(40)]
    )
    assert projects.get(store, 7).published_version == "v1"
    answer = CliRunner().invoke(cli.app, ["export", "7", "--model", str(tmp_path / "out")])
    assert answer.exit_code == 0, answer.output
    card = (tmp_path / "out" / "README.md").read_text()
    assert "human labels: 40" in card
    assert "published version: v1" in card
    assert json.loads((tmp_path / "out" / "config.json").read_text())["id2label"] == {"0": "cat", "1": "dog"}
