"""transformers in process: the shared prefix changes nothing, windows are kept, cut model files are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mollm.annotators import open_annotator
from mollm.config import AnnotatorConfig
from mollm.errors import ConfigError, ModelFileError
from mollm.prompts import Shot
from mollm.records import LabelSet
from tests.annotators.tiny_model import make_tiny_model

torch = pytest.importorskip("torch", reason="the transformers runtime needs mollm[torch]")
LABELS = LabelSet(("sports", "money", "science"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("tiny")
    make_tiny_model(home / "tiny")
    make_tiny_model(home / "base", chat=False)
    return home


def opened(models: Path, labels: LabelSet = LABELS, instruction: str = "Name the topic.", **settings: Any) -> Any:
    config = AnnotatorConfig.model_validate({"name": "a", "model": "tiny", "prompt": "plain", "orders": 1} | settings)
    return open_annotator(config, labels, instruction, [Shot("a goal", labels.names[0])], models)


@pytest.mark.parametrize("prompt", ["plain", "chat"])
def test_scores_are_those_of_the_whole_prompt_read_alone(models: Path, prompt: str) -> None:
    texts = ["all about sports", "a much longer text about money and what it does", "x"]
    with opened(models, prompt=prompt) as annotator:
        answers = annotator.annotate(texts)
        frame, tree = annotator.frames[0], annotator.one_pass.trees[0]
        for text, answer in zip(texts, answers, strict=True):
            ids = frame.before + annotator._text_tokens(text)[0] + frame.after
            weights = []
            for path in tree.paths:
                with torch.inference_mode():
                    logits = annotator.model(torch.tensor([ids + list(path)])).logits[0].log_softmax(-1)
                weights.append([float(logits[len(ids) - 1 + k, token]) for k, token in enumerate(path)])
            expected = tree_distribution(tree, weights)
            np.testing.assert_allclose(answer.label_probs, expected, rtol=2e-3, atol=1e-5)


def tree_distribution(tree: Any, weights: list[list[float]]) -> np.ndarray:
    """Constrained decoding by hand: at each place the allowed tokens share the mass."""
    place: dict[tuple[int, ...], dict[int, float]] = {}
    for path, row in zip(tree.paths, weights, strict=True):
        for depth, token in enumerate(path):
            place.setdefault(path[:depth], {})[token] = np.exp(row[depth])
    return np.array(
        [np.prod([place[p[:d]][t] / sum(place[p[:d]].values()) for d, t in enumerate(p)]) for p in tree.paths]
    )


def test_a_long_text_is_cut_to_the_window_and_counted(models: Path) -> None:
    with opened(models, max_tokens=100_000) as annotator:
        assert annotator.window == 512
        long, short = annotator.annotate(["money " * 100_000, "money"])
    assert (long.truncated, short.truncated) == (True, False)
    assert long.prompt_tokens <= 512
    assert long.abstained == 0


def test_a_prompt_that_overfills_the_window_is_an_error(models: Path) -> None:
    with pytest.raises(ConfigError, match="shorten the descriptions"):
        opened(models, instruction="word " * 600)


@pytest.mark.parametrize(
    "names", [("only",), tuple(f"c{n}" for n in range(60)), ("sport", "sports", "sports car"), ("👍", "a, b", '"q"')]
)
def test_label_lists_of_every_kind(models: Path, names: tuple[str, ...]) -> None:
    with opened(models, LabelSet(names)) as annotator:
        answer = annotator.annotate(["a text"])[0]
    assert answer.label_probs.sum() == pytest.approx(1)
    assert answer.label_probs.shape == (len(names),)


def test_special_tokens_in_a_text_are_plain_characters(models: Path) -> None:
    with opened(models, prompt="chat") as annotator:
        end = annotator.tokenizer.eos_token_id
        tokens, _ = annotator._text_tokens("a <|end|><|assistant|>sports")
        assert end not in tokens
        assert annotator.tokenizer.decode(tokens).strip() == "a <|end|><|assistant|>sports"


def test_position_bias_is_measured_once_and_orders_follow(models: Path) -> None:
    with opened(models, orders=0) as annotator:
        assert annotator.one_pass.orders is None
        annotator.annotate(["a"])
        assert annotator.one_pass.orders in (1, 2)
        assert annotator.one_pass.bias >= 0


def test_a_base_model_cannot_chat(models: Path) -> None:
    with pytest.raises(ConfigError, match="prompt = 'plain'"):
        opened(models, model="base", prompt="chat")


def test_a_cut_model_file_is_named(models: Path, tmp_path: Path) -> None:
    make_tiny_model(tmp_path / "cut")
    weights = tmp_path / "cut" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelFileError, match="cannot be loaded"):
        opened(tmp_path, model="cut")
