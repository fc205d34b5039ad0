"""transformers in process: the shared prefix changes nothing, windows are kept, cut model files are named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mollm.annotators import open_annotator
from mollm.config import AnnotatorConfig
from mollm.errors import ConfigError, ModelFileError
from mollm.pieces import parted
from mollm.prompts import Shot
from mollm.records import LabelSet
from tests.annotators.tiny_model import make_tiny_model

pytestmark = pytest.mark.slow

torch = pytest.importorskip("torch", reason="the transformers runtime needs mollm[torch]")
LABELS = LabelSet(("sports", "money", "science"))


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("tiny")
    make_tiny_model(home / "tiny")
    make_tiny_model(home / "base", chat=False)
    return home


def opened(models: Path, labels: LabelSet = LABELS, instruction: str = "Name the topic.", **settings: Any) -> Any:
    """In float32: two ways to the same number then differ by less than the tests allow."""
    values = {"name": "a", "model": "tiny", "prompt": "plain", "orders": 1, "dtype": "float32"} | settings
    config = AnnotatorConfig.model_validate(values)
    return open_annotator(config, labels, instruction, [Shot("a goal", labels.names[0])], models)


@pytest.mark.parametrize("prompt", ["plain", "chat"])
def test_scores_are_constrained_decoding_over_the_whole_prompt(
    models: Path, prompt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against every way of writing every label, each step read from the whole prompt, without cache or batch."""
    monkeypatch.setattr("mollm.prompts.coding.WORTH_ASKING", 0.0)
    labels = LabelSet(("red", "ray", "rays"))
    texts = ["all about red", "a much longer text about a ray and what it does", "x"]
    with opened(models, labels, prompt=prompt, temperature=1.0, top_p=1.0) as annotator:
        answers = annotator.annotate(texts)
        pieces = {token: annotator.tokenizer.decode([token]) for token in range(len(annotator.tokenizer))}
        for text, answer in zip(texts, answers, strict=True):
            ids = annotator.frames[0].before + annotator._text_tokens(text)[0] + annotator.frames[0].after
            expected = decoded(annotator, ids, annotator.prompts[0].answers, pieces)
            np.testing.assert_allclose(answer.votes, expected, rtol=2e-3, atol=1e-5)


@pytest.mark.parametrize("model", ["tiny", "base"])
def test_it_writes_the_same_words_again_and_never_more_than_asked(
    models: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(models, model=model) as annotator:
        generate, sizes = annotator.model.generate, []

        def noted(ids: Any, **options: Any) -> Any:
            out = generate(ids, **options)
            sizes.append((ids.shape[1], out.shape[1] - ids.shape[1]))
            return out

        monkeypatch.setattr(annotator.model, "generate", noted)
        request = "Write a better instruction. " * 200  # longer than the window
        assert annotator.write(request, 5) == annotator.write(request, 5)
        assert all(read + 5 <= annotator.window and written <= 5 for read, written in sizes)


def test_a_step_further_reads_no_prompt_again(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What texts often need after their first place comes from the keys and values at hand, with the same numbers."""
    labels = LabelSet(("red one", "red two", "ray one", "ray two"))
    texts = ["all about red", "a much longer text about a ray and what it does", "x", "two"]
    with opened(models, labels, batch_size=3) as annotator:
        monkeypatch.setattr("mollm.annotators._one_pass.OFTEN", 2.0)
        apart = annotator.annotate(texts)
        monkeypatch.setattr("mollm.annotators._one_pass.OFTEN", 0.01)
        along = annotator.annotate(texts)
    for one, other in zip(apart, along, strict=True):
        np.testing.assert_allclose(one.votes, other.votes, atol=1e-5)
        np.testing.assert_allclose(one.label_probs, other.label_probs, atol=1e-5)
    assert sum(answer.calls for answer in along) < sum(answer.calls for answer in apart)


def decoded(annotator: Any, ids: list[int], answers: tuple[str, ...], pieces: dict[int, str]) -> np.ndarray:
    """(C,): the probability that constrained decoding ends in each answer."""
    probs, end = np.zeros(len(answers)), annotator.one_pass.trees[0].end

    def go(path: list[int], text: str, mass: float) -> None:
        alive = [answer for answer in answers if answer.startswith(text)]
        if len(alive) == 1:
            probs[answers.index(alive[0])] += mass
            return
        allowed = [t for t, p in pieces.items() if t > 3 and p and any(a.startswith(text + p) for a in alive)]
        allowed += [end] * (text in alive)
        with torch.inference_mode():
            weights = annotator.model(torch.tensor([ids + path])).logits[0, -1].double().exp()[allowed]
        for token, share in zip(allowed, (weights / weights.sum()).tolist(), strict=True):
            if token == end:
                probs[answers.index(text)] += mass * share
            else:
                go([*path, token], text + pieces[token], mass * share)

    go([], "", 1.0)
    return probs


def test_a_long_text_is_cut_to_the_window_and_counted(models: Path) -> None:
    with opened(models, max_tokens=100_000, votes="closed", windows=1) as annotator:
        assert annotator.window == 512
        long, short = annotator.annotate(["money " * 100_000, "money"])
    assert (long.truncated, short.truncated) == (True, False)
    assert long.prompt_tokens <= 512
    assert long.abstained == 0


def test_a_text_of_three_windows_is_read_whole_in_four_parts(models: Path) -> None:
    text = "money " * 300 + "sports " * 500 + "science " * 200
    with opened(models, votes="closed") as annotator:
        whole, *parts = annotator.annotate([text, *parted(text, 4)])
    assert not any(answer.truncated for answer in (whole, *parts))
    np.testing.assert_allclose(whole.label_probs, np.mean([part.label_probs for part in parts], axis=0), atol=1e-5)
    assert whole.calls == 4  # 1,000 words cannot fit into one window, nor in two
    with opened(models, votes="closed", windows=2) as annotator:
        assert annotator.annotate([text])[0].truncated


def test_a_prompt_that_overfills_the_window_is_an_error(models: Path) -> None:
    with pytest.raises(ConfigError, match="shorten the descriptions"):
        opened(models, instruction="word " * 600)


def test_examples_that_overfill_the_model_s_own_window_are_told_how_they_fit(models: Path) -> None:
    """`max_tokens` says how long examples may be: the model is not loaded for that."""
    shots = [Shot(f"{topic} money " * 5000, topic) for topic in LABELS.names]
    given = {"name": "a", "model": "tiny", "prompt": "plain", "shots": 1}
    with pytest.raises(ConfigError, match="set max_tokens = 512"):
        open_annotator(AnnotatorConfig(**given, max_tokens=2048), LABELS, "Name the topic.", shots, models)
    with pytest.raises(ConfigError, match="raise max_tokens"):
        open_annotator(AnnotatorConfig(**given, max_tokens=64), LABELS, "word " * 600, (), models)


def test_long_examples_are_shortened_and_leave_room_for_the_text(models: Path) -> None:
    shots = [Shot(f"{topic} money " * 5000, topic) for topic in LABELS.names]
    config = AnnotatorConfig(name="a", model="tiny", prompt="plain", shots=1, max_tokens=512)
    with open_annotator(config, LABELS, "Name the topic.", shots, models) as annotator:
        answer = annotator.annotate(["all about sports"])[0]
    assert (answer.error, answer.truncated) == ("", False)


@pytest.mark.parametrize(
    "names", [("only",), tuple(f"c{n}" for n in range(60)), ("sport", "sports", "sports car"), ("👍", "a, b", '"q"')]
)
def test_label_lists_of_every_kind(models: Path, names: tuple[str, ...]) -> None:
    with opened(models, LabelSet(names)) as annotator:
        answer = annotator.annotate(["a text"])[0]
    assert answer.label_probs.sum() == pytest.approx(1)
    assert answer.label_probs.shape == (len(names),)


def test_five_hundred_labels_that_overfill_the_window_are_a_clear_error(models: Path) -> None:
    with pytest.raises(ConfigError, match="overfill the window"):
        opened(models, LabelSet(tuple(f"class {n}" for n in range(500))))


def test_labels_that_read_the_same_get_codes(models: Path) -> None:
    with opened(models, LabelSet(("s1", "s2"), shown=("sports", "sports"))) as annotator:
        assert "codes" in annotator.describe()
        assert annotator.annotate(["x"])[0].label_probs.sum() == pytest.approx(1)


def test_a_model_that_computes_nan_abstains_on_that_text(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half-precision weights do overflow: that is one text's abstention, with its reason."""
    with opened(models, batch_size=1) as annotator:
        honest = annotator._next_logprobs

        def overflowing(frame: Any, sequences: list[list[int]], forced: tuple[int, ...] = ()) -> Any:
            found = honest(frame, sequences, forced)
            return [step * float("nan") for step in found] if len(sequences[0]) > 30 else found

        monkeypatch.setattr(annotator, "_next_logprobs", overflowing)
        broken, fine = annotator.annotate(["word " * 40, "sports"])
    assert (broken.abstained, fine.abstained) == (1, 0)
    assert "NaN" in broken.error


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
