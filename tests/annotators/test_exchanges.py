"""Recorded exchanges with a real vLLM 0.32 serving SmolLM2: the runtime reads them as it read the server."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.annotators.exchanging import DIRECTORY, SCENARIOS, TEXTS, opened, replayed


@pytest.mark.parametrize("name", SCENARIOS)
def test_exchanges_are_read(name: str) -> None:
    with opened(name, replayed(name)) as annotator:
        answers = annotator.annotate(TEXTS)
        said = annotator.describe()
    assert ("logprob_token_ids" in said) == (name != "sample")
    for answer in answers:
        assert answer.votes.sum() + answer.abstained == pytest.approx(1)
        assert answer.prompt_tokens > 0
    if name != "sample":
        assert all(0 < answer.mass <= 1 for answer in answers)
        assert len({tuple(np.round(answer.label_probs, 6)) for answer in answers}) == len(TEXTS)


def test_exchanges_never_hold_a_seed_or_guided_choice() -> None:
    for path in DIRECTORY.glob("*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not {"seed", "guided_choice"} & set(json.loads(line).get("request") or {})
