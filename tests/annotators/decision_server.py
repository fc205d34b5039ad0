"""A small decision server, written by us from the documentation of real ones (autumn 2026): nobody's recording.

It speaks each dialect at the path where real servers do: which, is switched by name. An option is likely where one of
its words stands in the text. `spoils` changes a reply before it goes out; `broken` may answer instead of it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from mollm.annotators.decisions import Decisions
from mollm.config import AnnotatorConfig
from mollm.prompts import Shot
from mollm.records import LabelSet

LABELS = LabelSet(("sports", "money", "science"))
SYSTEM_ONE, OPENAI, SGLANG, PERPLEXITY = "systemone", "openai", "sglang", "perplexity"
DIALECTS = (SYSTEM_ONE, OPENAI, SGLANG, PERPLEXITY)
LIKED = 3.0  # nats that a word of an option in the text is worth

Json = dict[str, Any]
Asked = tuple[str, str, tuple[str, ...]]  # name, instructions, options


@dataclass
class DecisionServer:
    """`several`: the most questions of a request. `window`: in words. `first`: nats for the first-listed option.
    `joint`: the questions of a request change each other's answers, as in models that read all of them at once."""

    dialect: str = SYSTEM_ONE
    several: int = 100
    window: int = 200
    first: float = 0.0
    joint: bool = False
    reads: bool = True
    counts: bool = True
    spoils: Callable[[str, Json], Json] = lambda text, answer: answer
    broken: Callable[[httpx.Request], httpx.Response | None] = lambda request: None
    requests: list[Json] = field(default_factory=list)

    def handle(self, request: httpx.Request) -> httpx.Response:
        found = self.broken(request)
        if found is not None:
            return found
        path = "/v1/systemone" if self.dialect == SYSTEM_ONE else "/v1/decisions"
        if request.method != "POST" or request.url.path != path:
            return refusal(404, "Not Found")
        body = json.loads(request.content)
        self.requests.append(body)
        try:
            text, asked = self.asked(body)
        except (KeyError, TypeError, AttributeError) as error:
            return refusal(422, f"invalid request: {error!r}")
        if len(asked) > self.several:
            return refusal(400, f"at most {self.several} question can be asked, not {len(asked)}")
        if len(text.split()) > self.window:
            return refusal(400, f"the prompt does not fit the context length of {self.window} tokens")
        answers = [self.spoils(text, self.answer(text, one, len(asked))) for one in asked]
        return httpx.Response(200, json={"model": body["model"], "answers": self.told(answers)} | self.usage(body))

    def asked(self, body: Json) -> tuple[str, list[Asked]]:
        """The text and the questions; a KeyError where this dialect has other names for them."""
        if self.dialect in (SYSTEM_ONE, PERPLEXITY):
            questions = body["questions"].items()
            return body["state"], [(name, q["instructions"], tuple(q["criteria"])) for name, q in questions]
        if self.dialect == OPENAI:
            rows = body["questions"]
            return body["input"], [
                (q["name"], q["instructions"], tuple(choice["value"] for choice in q["choices"])) for q in rows
            ]
        rows = body["questions"]
        return body["input"], [(q["id"], q["question"], tuple(option["name"] for option in q["options"])) for q in rows]

    def answer(self, text: str, asked: Asked, company: int) -> Json:
        name, _, options = asked
        near = set(re.findall(r"\w+", text.casefold())) if self.reads else set()
        scores = [
            LIKED * bool(near & set(option.casefold().split())) + self.first * (k == 0)
            for k, option in enumerate(options)
        ]
        if self.joint:
            scores[-1] += 2.0 * (company - 1)
        weights = [math.exp(score) for score in scores]
        probs = {option: weight / sum(weights) for option, weight in zip(options, weights, strict=True)}
        best = max(probs, key=lambda option: probs[option])
        return {
            "name": name,
            "type": "choice",
            "choice": best,
            "probabilities": probs,
            "confidence": max(probs.values()),
        }

    def told(self, answers: Iterable[Json]) -> Any:
        """The answers in the dialect's own form."""
        if self.dialect == OPENAI:
            return [_listed(answer) for answer in answers]
        mass = {"label_mass": 0.9} if self.dialect == SGLANG else {}
        return {answer.pop("name"): answer | mass for answer in answers}

    def usage(self, body: Json) -> Json:
        if not self.counts:
            return {}
        read = len(json.dumps(body).split())
        if self.dialect == SGLANG:
            return {"usage": {"prompt_tokens": read, "total_tokens": read}}
        return {"usage": {"input_tokens": read, "output_tokens": 0}}

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.handle)


def _listed(answer: Json) -> Json:
    if "probabilities" not in answer:
        return answer
    rows = [{"value": value, "probability": share} for value, share in answer["probabilities"].items()]
    return answer | {"probabilities": rows}


def refusal(status: int, message: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message, "type": "invalid_request_error"}})


def decided(
    server: DecisionServer, labels: LabelSet = LABELS, examples: tuple[Shot, ...] = (), **settings: Any
) -> Decisions:
    """The runtime in front of the server; waits between retries take no time."""
    given = {"name": "a", "runtime": "decisions", "model": "decider", "url": "http://decider/v1"} | settings
    config = AnnotatorConfig.model_validate(given)
    return Decisions(
        config,
        labels,
        "Name the topic.",
        examples,
        Path("models"),
        transport=server.transport(),
        sleep=lambda seconds: None,
    )
