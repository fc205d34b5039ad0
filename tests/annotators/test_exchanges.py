"""Recorded exchanges with real servers on SmolLM2 (vLLM 0.32, llama.cpp of 2026-10): read as the server was read."""

from __future__ import annotations

import json

import numpy as np
import pytest

from tests.annotators.exchanging import DIRECTORY, SCENARIOS, TEXTS, opened, replayed

SERVERS = {"vllm": ("logprob_token_ids", "structured_outputs"), "llama_cpp": ("logit_bias", "JSON schema")}


@pytest.mark.parametrize("server", SERVERS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_exchanges_are_read(name: str, server: str) -> None:
    with opened(name, replayed(name, server)) as annotator:
        answers = annotator.annotate(TEXTS)
        said = annotator.describe()
    scored, held = SERVERS[server]
    parsed = server == "llama_cpp" and name == "sample"  # its completions know no schema
    assert ("parsed" if parsed else held if "sample" in name else scored) in said
    for answer in answers:
        assert answer.votes.sum() + answer.abstained == pytest.approx(1)
        assert answer.prompt_tokens > 0
        assert bool(answer.error) == (parsed and answer.abstained == 1), "none of its samples names a label"
    if "sample" not in name:
        assert all(np.isnan(answer.mass) if server == "llama_cpp" else 0 < answer.mass <= 1 for answer in answers)
        assert len({tuple(np.round(answer.label_probs, 6)) for answer in answers}) == len(TEXTS)
    elif not parsed:
        assert all(answer.abstained == 0 for answer in answers)


@pytest.mark.parametrize("name", ["plain", "chat", "codes"])
def test_two_servers_on_the_same_weights_agree(name: str) -> None:
    """vLLM on the dequantised weights in float32, llama.cpp on the four-bit weights themselves."""
    heard = []
    for server in SERVERS:
        with opened(name, replayed(name, server)) as annotator:
            heard.append(np.stack([answer.label_probs for answer in annotator.annotate(TEXTS)]))
    assert np.abs(heard[0] - heard[1]).sum(axis=1).max() / 2 < 0.1


def test_exchanges_never_hold_a_seed_or_guided_choice() -> None:
    for path in DIRECTORY.glob("*/*.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines():
            assert not {"seed", "guided_choice"} & set(json.loads(line).get("request") or {})
