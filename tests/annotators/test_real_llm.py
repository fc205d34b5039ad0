"""The default panel on the demo's texts: two tiny real LLMs, each well above chance, and better together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mollm.annotators import open_annotator
from mollm.prompts import Shot
from mollm.records import LabelSet
from mollm_backend import panels
from mollm_backend.demo.texts import from_corpus
from mollm_backend.packages import ensure_model
from tests.conftest import heavy_home

pytestmark = pytest.mark.real_llm


def test_two_tiny_llms_beat_the_better_one() -> None:
    """Accuracy on gold (scoring alone); log-probabilities minus each annotator's and class's mean, summed."""
    models = heavy_home() / "models"
    texts = from_corpus(ensure_model("chatterbot-corpus", models, print))
    labels, panel = LabelSet(texts.labels), panels.load("", models)
    gold = np.array([labels.names.index(texts.gold[text]) for text in texts.texts])
    centred = []
    for config in panel.annotators:
        ensure_model(config.model, models, print)
        shots = [Shot(text, label) for text, label in texts.examples]
        with open_annotator(config, labels, panel.instruction, shots, models) as annotator:
            answers = annotator.annotate(texts.texts)
        logs = np.log(np.stack([answer.label_probs for answer in answers]))
        centred.append(logs - logs.mean(axis=0))
    alone = [float((one.argmax(axis=1) == gold).mean()) for one in centred]
    together = float((sum(centred).argmax(axis=1) == gold).mean())  # type: ignore[attr-defined]
    assert min(alone) > 0.65, alone
    assert together > 0.75, (alone, together)


def test_the_text_encoder_knows_topics_without_a_prompt() -> None:
    models = heavy_home() / "models"
    texts = from_corpus(ensure_model("chatterbot-corpus", models, print))
    labels = LabelSet(texts.labels)
    config = panels.load("topics", models).annotators[-1]
    ensure_model(config.model, models, print)
    with open_annotator(config, labels, "", (), models) as annotator:
        answers = annotator.annotate(texts.texts)
    said = [labels.names[int(answer.label_probs.argmax())] for answer in answers]
    right = float(np.mean([texts.gold[text] == label for text, label in zip(texts.texts, said, strict=True)]))
    assert right > 0.7, right


def test_cut_weights_are_noticed(tmp_path: Path) -> None:
    """`is_ready` compares sizes: a model that a full disk cut short is made again, not loaded."""
    from mollm_backend.packages import MANIFEST, is_ready

    models = heavy_home() / "models"
    source = ensure_model("chatterbot-corpus", models, print)
    target = tmp_path / "chatterbot-corpus"
    target.mkdir(parents=True)
    for file in source.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    assert is_ready("chatterbot-corpus", tmp_path)
    (target / "trivia.yml").write_bytes(b"cut")
    assert not is_ready("chatterbot-corpus", tmp_path)
    (target / MANIFEST).unlink()
    assert not is_ready("chatterbot-corpus", tmp_path)
