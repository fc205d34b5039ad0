"""The HTTP runtime against a real vLLM server: the way it finds, numbers that agree with transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from mollm.signals import total_variation
from tests.annotators.exchanging import SCENARIOS, TEXTS
from tests.annotators.real_server import (
    answers_of_scenario,
    asked,
    check_a_text_longer_than_the_window_is_cut,
    check_hostile_texts_and_many_labels,
    distance_to_transformers,
)

pytestmark = pytest.mark.vllm


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenarios(vllm_url: str, name: str) -> None:
    way = "held to the labels (structured" if "sample" in name else "logprob_token_ids"
    answers = answers_of_scenario(name, vllm_url, "vllm", way)
    assert all(answer.abstained < 1 and not answer.error for answer in answers)


@pytest.mark.parametrize(
    "settings", [{"prompt": "plain", "shots": 1, "orders": 2}, {"prompt": "chat"}], ids=["plain", "chat"]
)
def test_the_same_numbers_as_in_process(vllm_url: str, model_dir: Path, settings: dict[str, Any]) -> None:
    assert distance_to_transformers(vllm_url, model_dir, settings) < 0.02


def test_a_step_further_in_the_same_request(vllm_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """SmolLM2 opens its answer with a blank: the place behind it in the same request, with the same numbers."""
    with asked(vllm_url, prompt="chat", coding="labels") as annotator:
        assert "a step further in the same request" in annotator.describe()
        monkeypatch.setattr("mollm.annotators._one_pass.OFTEN", 2.0)
        apart = annotator.annotate(TEXTS)
        monkeypatch.setattr("mollm.annotators._one_pass.OFTEN", 0.25)
        along = annotator.annotate(TEXTS)
    for one, other in zip(apart, along, strict=True):
        np.testing.assert_allclose(one.votes, other.votes, atol=1e-3)
    assert sum(answer.calls for answer in along) < sum(answer.calls for answer in apart)


def test_votes_agree_with_constrained_samples(vllm_url: str) -> None:
    """Closed form against 60 samples held to the labels: within what sixty draws explain, and tokenization a little."""
    with asked(vllm_url, prompt="plain", shots=1) as scored:
        expected = np.stack([answer.votes for answer in scored.annotate(TEXTS)])
    with asked(vllm_url, prompt="plain", shots=1, mode="sample", samples=60) as sampled:
        drawn = np.stack([answer.votes for answer in sampled.annotate(TEXTS)])
    assert total_variation(expected, drawn).mean() < 0.35


def test_a_text_longer_than_the_window_is_cut(vllm_url: str) -> None:
    check_a_text_longer_than_the_window_is_cut(vllm_url)


def test_hostile_texts_and_many_labels(vllm_url: str) -> None:
    check_hostile_texts_and_many_labels(vllm_url)


def test_the_prefix_cache_hits(vllm_url: str) -> None:
    """What is common comes first: after the first text, most prompt tokens are not computed again."""

    def hits() -> float:
        lines = httpx.get(vllm_url + "/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith("vllm:prefix_cache_hits_total"))

    with asked(vllm_url, prompt="plain", shots=1) as annotator:
        before = hits()
        answers = annotator.annotate([f"Sentence number {n}." for n in range(12)])
    tokens = sum(answer.prompt_tokens for answer in answers)
    assert hits() - before > 0.3 * tokens
