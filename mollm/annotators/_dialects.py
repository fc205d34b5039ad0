"""The wire formats of decision servers: a text and questions go in, a probability of each option comes out.

Three are spoken, as their documentation has them (autumn 2026):

    System One             POST /v1/systemone  TypeSafe, llama.cpp, vLLM, Ollama, SGLang (decision models), LiteLLM
                           POST /v1/decisions  Perplexity and others serve the same format there
    OpenAI's decisions     POST /v1/decisions  OpenAI, vLLM, LiteLLM, Fireworks
    SGLang's decisions     POST /v1/decisions  SGLang with a chat model

Replies differ less than requests: one reader is for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mollm.errors import AnnotatorError
from mollm.records import FloatArray

SUM_TOLERANCE = 0.02
"""How far probabilities may sum from 1: hosts document .01, and some round each of them to two decimals."""

Body = dict[str, Any]


class BadReply(AnnotatorError):
    """The decision server's reply cannot be used."""


@dataclass(frozen=True, slots=True)
class Choice:
    """One question of a request. `options` and `descriptions` stand in the order in which they are listed."""

    name: str
    instructions: str
    options: tuple[str, ...]
    descriptions: tuple[str, ...]

    def described(self) -> list[tuple[str, str]]:
        return list(zip(self.options, self.descriptions, strict=True))


@dataclass(frozen=True, slots=True)
class Dialect:
    """A format at a path. `body` gives the request for a model, a text and its questions."""

    name: str
    path: str
    body: Callable[[str, str, Sequence[Choice]], Body]


Probs = Mapping[str, float] | BadReply


@dataclass(frozen=True, slots=True)
class Reply:
    """What was said of each question: its probabilities by option, or why there are none. Tokens are the request's.

    `mass`: the probability of any option at all in the model's unconstrained distribution (NaN: not told).
    """

    probs: tuple[Probs, ...]
    mass: tuple[float, ...]
    prompt_tokens: int
    completion_tokens: int


def dialects_at(url: str) -> tuple[str, tuple[Dialect, ...]]:
    """The server's root, and the dialects to try there, in order. An address that names its endpoint is taken at its
    word: only the path that it names is tried."""
    given = url.rstrip("/")
    end = next((end for end in BODIES if given.endswith(end)), "")
    root = given.removesuffix(end).removesuffix("/v1")
    if end:
        return root, tuple(Dialect(name, given.removeprefix(root), body) for name, body in BODIES[end])
    return root, tuple(Dialect(name, f"/v1{path}", body) for path, spoken in BODIES.items() for name, body in spoken)


def read(reply: Mapping[str, Any], questions: Sequence[Choice]) -> Reply:
    """The reply in any dialect. Raises BadReply where it holds no answers at all."""
    answers = reply.get("answers")
    if isinstance(answers, list):
        answers = {str(answer.get("name")): answer for answer in answers if isinstance(answer, dict)}
    if not isinstance(answers, dict):
        raise BadReply("the decision server's reply holds no answers")
    told = reply.get("diagnostics")
    told = told if isinstance(told, dict) else {}
    usage = reply.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    return Reply(
        tuple(_probs(answers.get(one.name), one) for one in questions),
        tuple(_number((told.get(one.name) or answers.get(one.name) or {}), "label_mass") for one in questions),
        _count(usage, "input_tokens", "prompt_tokens"),
        _count(usage, "output_tokens", "completion_tokens"),
    )


def row(probs: Mapping[str, float], options: Sequence[str]) -> FloatArray:
    """(C,) the probabilities of the options in this order, summing to 1."""
    found = np.array([probs[option] for option in options], dtype=np.float64)
    return np.asarray(found / found.sum())


def _probs(answer: Any, question: Choice) -> Probs:
    if not isinstance(answer, dict):
        return BadReply("the decision server left out the question")
    if answer.get("type") == "refusal":
        return BadReply("the decision server refused to decide on this text")
    found = answer.get("probabilities")
    if isinstance(found, list):
        found = {str(one.get("value")): one.get("probability") for one in found if isinstance(one, dict)}
    if not isinstance(found, dict) or not found:
        return BadReply("the decision server answered without probabilities")
    absent = [option for option in question.options if option not in found]
    if absent:
        return BadReply(f"the decision server left out {absent[0]!r}")
    probs = {option: _number(found, option) for option in question.options}
    if not all(0 <= value <= 1 + SUM_TOLERANCE for value in probs.values()):
        return BadReply("the decision server's probabilities are not numbers from 0 to 1")
    total = sum(probs.values())
    if abs(total - 1) > SUM_TOLERANCE:
        return BadReply(f"the decision server's probabilities sum to {total:.3g}, not to 1")
    return probs


def _number(of: Any, key: str) -> float:
    value = of.get(key) if isinstance(of, dict) else None
    return float("nan") if isinstance(value, bool) or not isinstance(value, int | float) else float(value)


def _count(usage: Mapping[str, Any], *names: str) -> int:
    counts = (_number(usage, name) for name in names)
    return next((int(count) for count in counts if np.isfinite(count) and count > 0), 0)


def _systemone(model: str, text: str, questions: Sequence[Choice]) -> Body:
    asked = {
        one.name: {
            "type": "choice", "instructions": one.instructions,
            "criteria": {option: described or None for option, described in one.described()},
        }
        for one in questions
    }  # fmt: skip
    return {"model": model, "state": text, "questions": asked}


def _openai(model: str, text: str, questions: Sequence[Choice]) -> Body:
    asked = [
        {
            "type": "choice", "name": one.name, "instructions": one.instructions,
            "choices": [
                {"value": option} | ({"description": described} if described else {})
                for option, described in one.described()
            ],
        }
        for one in questions
    ]  # fmt: skip
    return {"model": model, "input": text, "questions": asked}


def _sglang(model: str, text: str, questions: Sequence[Choice]) -> Body:
    asked = [
        {
            "type": "choice", "id": one.name, "question": one.instructions,
            "options": [
                {"name": option} | ({"description": described} if described else {})
                for option, described in one.described()
            ],
        }
        for one in questions
    ]  # fmt: skip
    return {"model": model, "input": text, "questions": asked}


BODIES: dict[str, tuple[tuple[str, Callable[[str, str, Sequence[Choice]], Body]], ...]] = {
    "/systemone": (("System One", _systemone),),
    "/decisions": (("OpenAI's decisions", _openai), ("SGLang's decisions", _sglang), ("System One", _systemone)),
}
"""By the end of a path: the formats that servers are known to speak there, the most common first."""
