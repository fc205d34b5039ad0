"""The runtime `decisions` against llama.cpp's own /v1/systemone.

The model is SmolLM2 with the metadata of a decision model: a real server and a real model, though one that decides
hardly better than chance. What is tested is the protocol, never the quality.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from mollm.annotators.decisions import Decisions
from mollm.config import AnnotatorConfig
from mollm.errors import AnnotatorError
from mollm.records import LabelSet
from tests.annotators.exchanging import LABELS, TEXTS
from tests.annotators.real_server import HOSTILE

pytestmark = pytest.mark.llama_cpp
MOOD = LabelSet(("angry", "calm"), descriptions=("complains", ""))


def opened(url: str, labels: LabelSet = LABELS, **settings: object) -> Decisions:
    config = AnnotatorConfig.model_validate(
        {"name": "a", "runtime": "decisions", "model": "smollm2", "url": url, "concurrency": 2} | settings
    )
    return Decisions(config, labels, "Name the topic.", (), Path("models"))


def test_the_dialect_is_found_and_answers_are_distributions(decider_url: str) -> None:
    with opened(f"{decider_url}/v1") as annotator:
        assert "System One, several questions in a request" in annotator.describe()
        answers = annotator.annotate(TEXTS)
    for answer in answers:
        assert answer.error == ""
        assert answer.label_probs.sum() == pytest.approx(1)
        assert answer.prompt_tokens > 0
    assert len({tuple(np.round(answer.label_probs, 6)) for answer in answers}) == len(TEXTS)


def test_two_decisions_in_one_request_are_what_they_are_alone(decider_url: str) -> None:
    with opened(decider_url) as topic, opened(decider_url, MOOD) as mood:
        alone = [topic.annotate(TEXTS), mood.annotate(TEXTS)]
        topic.ask_along([mood])
        topics, moods = topic.annotate(TEXTS), mood.annotate(TEXTS)
    assert [answer.calls for answer in moods] == [0] * len(TEXTS)
    for together, apart in zip((topics, moods), alone, strict=True):
        for one, other in zip(together, apart, strict=True):
            assert np.abs(one.label_probs - other.label_probs).sum() < 0.02


def test_hostile_and_long_texts(decider_url: str) -> None:
    text = "word " * 3000
    with opened(decider_url, orders=1, windows=1) as annotator:
        long, *hostile = annotator.annotate([text, *HOSTILE])
    assert (long.truncated, long.error) == (True, "")
    with opened(decider_url, orders=1) as annotator:
        (whole,) = annotator.annotate([text])
    assert (whole.truncated, whole.error, whole.calls > 2) == (False, "", True)
    assert not [answer.error for answer in hostile if answer.error]


def test_more_labels_than_it_can_are_refused_with_its_own_words(decider_url: str) -> None:
    with pytest.raises(AnnotatorError, match=r"too many options \(60\), this model supports at most 52"):
        opened(decider_url, LabelSet(tuple(f"topic {n}" for n in range(60))))


def test_a_chat_model_serves_no_decisions(llama_url: str) -> None:
    with pytest.raises(AnnotatorError, match="serves no decisions") as caught:
        opened(llama_url)
    assert "\n" not in str(caught.value)
