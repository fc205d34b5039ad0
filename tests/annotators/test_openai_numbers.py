"""The HTTP runtime before numbers that are none: an abstention of that text, with its error."""

from __future__ import annotations

import json
import math
from typing import Any

import httpx
import numpy as np
import pytest

from mollm.errors import AnnotatorError
from tests.annotators.failing import failing
from tests.annotators.fake_server import EVERY, LLAMA_CPP, TEXTS, FakeServer, asked, every_scoring_way, every_way


def logprobs(*values: float | None) -> httpx.Response:
    def rows(body: dict[str, Any]) -> list[dict[str, Any]]:
        found = dict(zip((f"token_id:{t}" for t in body["logprob_token_ids"]), values, strict=False))
        return [{"index": n, "text": "", "logprobs": {"top_logprobs": [found]}} for n in range(len(body["prompt"]))]

    def reply(request: httpx.Request, body: dict[str, Any]) -> httpx.Response | None:
        if "logprob_token_ids" not in body:
            return None
        return httpx.Response(200, text=json.dumps({"model": "fake", "choices": rows(body)}))

    return reply  # type: ignore[return-value]


@pytest.mark.parametrize(
    "values", [(math.nan, -1.0, -1.0), (None, -1.0, -1.0), (-1.0,), (-9999.0, -9999.0, -9999.0)],
    ids=["NaN", "null", "too few tokens", "all masked"],
)  # fmt: skip
def test_unusable_log_probabilities_are_a_recorded_abstention(values: tuple[float, ...]) -> None:
    server = FakeServer()
    with asked(server, prompt="plain", orders=1) as annotator:
        server.broken = logprobs(*values)  # type: ignore[assignment]
        (answer,) = annotator.annotate(["a"])
    assert answer.abstained == 1
    assert answer.error
    assert not answer.label_probs.any()


def test_a_masked_label_has_no_probability() -> None:
    server = FakeServer()
    with asked(server, votes="closed", prompt="plain", orders=1) as annotator:
        server.broken = logprobs(math.log(0.6), -9999.0, math.log(0.2))  # type: ignore[assignment]
        (answer,) = annotator.annotate(["a"])
    np.testing.assert_allclose(answer.label_probs, [0.75, 0, 0.25], atol=1e-9)
    assert answer.mass == pytest.approx(0.8)


@every_way
@pytest.mark.parametrize("mode", ["score", "sample"])
def test_fewer_choices_than_asked(mode: str, can: frozenset[str]) -> None:
    server = FakeServer(can)
    with asked(server, prompt="plain", mode=mode, orders=1) as annotator:
        server.broken = failing(httpx.Response(200, json={"model": "fake", "choices": []}), only="gap")
        answers = annotator.annotate(["gap", "all about money"])
    assert (answers[0].abstained, answers[1].label_probs.argmax()) == (1, 1)
    assert "asked for, 0 came" in answers[0].error


def unreadable(kind: str, value: Any) -> Any:
    """Choices whose numbers, or whose text, are `value`, in the form that this way reads."""

    def broken(request: httpx.Request, body: dict[str, Any]) -> httpx.Response | None:
        if "poison" not in json.dumps(body) or not request.url.path.endswith("completions"):
            return None
        ids = body.get("logprob_token_ids") or [token for token, _ in body.get("logit_bias") or []]
        logprobs = {
            "ids": {"top_logprobs": [{f"token_id:{token}": value for token in ids}]},
            "biased": {"content": [{"top_probs": [{"id": token, "prob": value} for token in ids]}]},
            "top": {"top_logprobs": [{" sports": value}]},
            "samples": None,
        }[kind]
        choices = [{"index": n, "text": value, "logprobs": logprobs} for n in range(body.get("n", 1))]
        return httpx.Response(200, text=json.dumps({"model": "fake", "choices": choices}))

    return broken


@pytest.mark.parametrize("value", [math.nan, None, "much", math.inf], ids=["NaN", "null", "a word", "infinity"])
@pytest.mark.parametrize("kind", EVERY)
def test_what_is_no_number_is_one_texts_abstention(kind: str, value: Any) -> None:
    server = FakeServer(EVERY[kind])
    with asked(server, prompt="plain", orders=1, batch_size=1, samples=2) as annotator:
        server.broken = unreadable(kind, value)
        poison, money = annotator.annotate(["poison", "all about money"])
    assert (poison.abstained, money.label_probs.argmax()) == (1, 1)
    assert poison.error or kind == "samples"  # a sample that names no label is an abstention like any other
    assert not poison.label_probs.any()


def test_a_server_that_gives_no_shares_for_one_text_abstains_on_that_text() -> None:
    server = FakeServer(LLAMA_CPP)
    with asked(server, prompt="plain", orders=1) as annotator:
        choices = [{"index": 0, "text": "", "logprobs": None}]
        server.broken = failing(httpx.Response(200, json={"model": "fake", "choices": choices}), only="poison")
        poison, money = annotator.annotate(["poison", "all about money"])
    assert (poison.abstained, money.label_probs.argmax()) == (1, 1)
    assert "NaN" in poison.error


@pytest.mark.parametrize("odd", ["x", ["x"], 3, {"content": ["x"]}, {"content": 3}, {"top_logprobs": 3}])
@every_scoring_way
def test_log_probabilities_of_another_form_are_no_mistake_of_ours(can: frozenset[str], odd: Any) -> None:
    """An abstention, or an error that says so; never an AttributeError."""

    def answer(request: httpx.Request, body: dict[str, Any]) -> httpx.Response | None:
        if not broken or "completions" not in request.url.path:
            return None
        prompts = body.get("prompt", "")
        count = len(prompts) if isinstance(prompts, list) and not isinstance(prompts[0], int) else 1
        return httpx.Response(200, json={"choices": [{"text": "sports", "logprobs": odd}] * max(count, 1)})

    broken: list[bool] = []
    with asked(FakeServer(can, broken=answer), prompt="plain", orders=1) as annotator:
        broken.append(True)
        try:
            answers = annotator.annotate(TEXTS)
        except AnnotatorError as error:
            assert str(error).startswith(f"{annotator.name}: ")  # noqa: PT017 - either way is good
        else:
            assert all(row.error for row in answers)
