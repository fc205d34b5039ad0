"""Tuned top layers: cached activations change nothing, a seed decides, the offset counts, a save can be loaded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

from mollm.classifier.encoder import Encoder
from mollm.classifier.layers import activations, below, layers_of, upper_part
from mollm.classifier.saving import save, with_upper
from mollm.classifier.top import Top
from mollm.errors import InputError, NotFittedError
from mollm.losses import Rows
from mollm.records import IntArray

pytestmark = pytest.mark.slow

PLACE, PERSON = ("where is the city", "what town", "name the town", "in what city"), ("who is the man", "what person")
TEXTS = [f"{text} {tail}" for tail in ("", "a year", "of a number") for text in (*PLACE, *PERSON, *PERSON)]
LABEL = np.array([0, 0, 0, 0, 1, 1, 1, 1] * 3)


def rows(index: IntArray) -> Rows:
    return Rows(index, LABEL[index], np.ones(len(index)), np.zeros((len(index), 2), dtype=np.bool_))


def test_upper_layers_on_activations_are_the_whole_encoder(tiny: Path) -> None:
    import torch

    encoder = Encoder(tiny)
    tokenizer, model = encoder.load()
    acts = activations(encoder, TEXTS, 2)
    top = Top(2, model, tuned=2, epochs=0).fit(acts, rows(np.arange(8)), None, 0)
    batch = tokenizer(TEXTS[:1], return_tensors="pt")
    with torch.inference_mode():
        whole = model(**batch).last_hidden_state[0].mean(dim=0).numpy()
    np.testing.assert_allclose(top.pooled(acts, np.arange(1))[0], whole, atol=5e-3)  # activations are kept in half


@pytest.mark.parametrize(
    "kind", ["Bert", "DistilBert", "Roberta", "Electra", "MPNet", "XLMRoberta", "DebertaV2", "ModernBert"]
)
def test_encoders_of_many_kinds_can_be_cut(kind: str) -> None:
    import torch
    import transformers

    torch.manual_seed(0)
    small = {"vocab_size": 40, "hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2,
             "intermediate_size": 24, "max_position_embeddings": 40, "pad_token_id": 0}  # fmt: skip
    if kind == "DistilBert":
        small = {"vocab_size": 40, "dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24, "pad_token_id": 0}
    if kind == "ModernBert":
        small |= {"bos_token_id": 1, "eos_token_id": 2, "cls_token_id": 1, "sep_token_id": 2}
    model = getattr(transformers, f"{kind}Model")(getattr(transformers, f"{kind}Config")(**small)).eval()
    inputs = {"input_ids": torch.tensor([[1, 5, 6, 7, 2], [1, 8, 2, 0, 0]]),
              "attention_mask": torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])}  # fmt: skip
    with torch.inference_mode():
        whole = model(**inputs).last_hidden_state
        for tuned in (1, 2, 3):
            upper = upper_part(model, tuned)
            states = below(model, tuned, inputs)
            again = upper(inputs_embeds=states, attention_mask=inputs["attention_mask"]).last_hidden_state
            torch.testing.assert_close(again[0], whole[0], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(again[1, :3], whole[1, :3], atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(with_upper(model, upper)(**inputs).last_hidden_state, whole)


def test_it_learns_and_a_seed_decides_and_the_encoder_is_not_changed(tiny: Path) -> None:
    encoder = Encoder(tiny)
    model = encoder.load()[1]
    before = {name: value.clone() for name, value in model.state_dict().items()}
    acts = activations(encoder, TEXTS, 2)
    fits = [
        Top(2, model, tuned=2, epochs=20, rate=1e-3, start_ridge=1.0).fit(acts, rows(np.arange(16)), None, 5)
        for _ in range(2)
    ]
    first, second = (fit.logits(acts) for fit in fits)
    np.testing.assert_array_equal(first, second)
    assert (first.argmax(axis=1) == LABEL)[:16].mean() > 0.9
    for name, value in model.state_dict().items():
        assert bool((value == before[name]).all())


def test_the_offset_leaves_less_to_learn(tiny: Path) -> None:
    encoder = Encoder(tiny)
    model = encoder.load()[1]
    acts = activations(encoder, TEXTS, 2)
    sure = np.log(np.where(np.eye(2)[LABEL] > 0, 0.999, 0.001))
    index = np.arange(16)
    free = Top(2, model, tuned=2, epochs=5, start_ridge=1.0).fit(acts, rows(index), None, 0).logits(acts)
    bound = Top(2, model, tuned=2, epochs=5, start_ridge=1.0).fit(acts, rows(index), sure, 0).logits(acts)
    assert np.ptp(bound, axis=1).mean() < 0.2 * np.ptp(free, axis=1).mean()


def test_a_saved_classifier_loads_with_transformers_alone(tiny: Path, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModel, AutoTokenizer

    encoder = Encoder(tiny)
    acts = activations(encoder, TEXTS, 2)
    top = Top(2, encoder.load()[1], tuned=2, epochs=3).fit(acts, rows(np.arange(16)), None, 0)
    save(top, encoder, tmp_path / "saved", ("place", "person"), {"human rows": 16})
    model = AutoModel.from_pretrained(tmp_path / "saved").eval()
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "saved")
    head = load_file(tmp_path / "saved" / "head.safetensors")
    with torch.inference_mode():
        mean = model(**tokenizer(TEXTS[20], return_tensors="pt")).last_hidden_state[0].mean(dim=0)
    logits = (head["weight"] @ mean + head["bias"]).numpy()
    np.testing.assert_allclose(logits, top.logits(acts, np.array([20]))[0], atol=2e-2)
    assert model.config.id2label == {0: "place", 1: "person"}
    assert "human rows: 16" in (tmp_path / "saved" / "README.md").read_text()


def test_bad_input_is_named(tiny: Path) -> None:
    encoder = Encoder(tiny)
    with pytest.raises(InputError, match="4 layers"):
        activations(encoder, TEXTS, 9)
    acts = activations(encoder, TEXTS, 4)  # all layers: what `full` does
    with pytest.raises(NotFittedError):
        Top(2, encoder.load()[1]).logits(acts)
    assert len(layers_of(encoder.load()[1])[2]) == 4
