"""The HTTP runtime against llama.cpp's own server: exact shares, numbers that agree with transformers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mollm.annotators.openai import OpenAI
from mollm.errors import AnnotatorError
from mollm.records import LabelSet
from mollm_backend.packages import ensure_model
from tests.annotators.exchanging import SCENARIOS, TEXTS
from tests.annotators.real_server import (
    answers_of_scenario,
    asked,
    check_a_text_longer_than_the_window_is_cut,
    check_hostile_texts_and_many_labels,
    distance_to_transformers,
    label_probs,
)
from tests.conftest import heavy_home

pytestmark = pytest.mark.llama_cpp
NAMES = [name for name in SCENARIOS if name != "chat samples"] + ["chat samples"]


@pytest.mark.parametrize("name", NAMES)
def test_scenarios(llama_url: str, name: str) -> None:
    ways = {"sample": "samples by 2, parsed", "chat samples": "held to the labels (JSON schema)"}
    answers = answers_of_scenario(name, llama_url, "llama_cpp", ways.get(name, "logit_bias"))
    assert all(bool(answer.error) == (answer.abstained == 1) and answer.prompt_tokens > 0 for answer in answers)
    assert name == "sample" or not any(answer.error for answer in answers), "only free samples may name no label"


@pytest.mark.real_llm
@pytest.mark.parametrize("settings", [{"prompt": "plain", "shots": 1}, {"prompt": "chat"}], ids=["plain", "chat"])
def test_the_same_numbers_as_in_process(llama_url: str, settings: dict[str, Any]) -> None:
    """Up to what llama.cpp's eight-bit activations differ from float32 on the same four-bit weights."""
    model_dir = ensure_model("smollm2-135m-instruct", heavy_home(), print)
    assert distance_to_transformers(llama_url, model_dir, settings) < 0.1


def test_a_text_longer_than_the_window_is_cut(llama_url: str) -> None:
    check_a_text_longer_than_the_window_is_cut(llama_url)


def test_hostile_texts_and_many_labels(llama_url: str) -> None:
    check_hostile_texts_and_many_labels(llama_url)


def test_odd_labels(llama_url: str) -> None:
    labels = LabelSet(("food, drink", 'the "best"', "👍", "sport", "sports"))
    with asked(llama_url, labels, prompt="plain") as annotator:
        assert "logit_bias" in annotator.describe()
        answers = annotator.annotate(["What a goal!", "👍👍", "I like it 👍"])
    for answer in answers:
        assert answer.label_probs.sum() == pytest.approx(1)
        assert not answer.error


def test_top_logprobs_agree_with_the_exact_shares(llama_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a server without chosen tokens would give, on the same server: steps over the blank token, alike enough."""
    there = label_probs(asked(llama_url, prompt="plain", shots=1))
    monkeypatch.setattr("mollm.annotators._biased_tokens.BiasedTokens.probe", _cannot)
    with asked(llama_url, prompt="plain", shots=1) as top:
        assert isinstance(top, OpenAI)
        assert "top_logprobs" in top.describe()
        answers = top.annotate(TEXTS)
    assert (np.stack([answer.label_probs for answer in answers]).argmax(axis=1) == there.argmax(axis=1)).all()
    assert max(answer.calls for answer in answers) > 1


def _cannot(self: object) -> None:
    raise AnnotatorError("not in this test")
