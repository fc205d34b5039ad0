"""The most probable next tokens, for servers that give no chosen ones: `top_logprobs`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mollm.annotators import Answer, abstention
from mollm.annotators._http import Refused, Trouble
from mollm.annotators._ways import Way
from mollm.errors import AnnotatorError
from mollm.records import FloatArray
from mollm.signals import expected_votes, normalised

TOP = 20  # what every server grants; more is a 400 in vLLM beyond --max-logprobs
FLOOR = 0.5  # a label that is not listed has at most the least listed probability: half of it, in expectation


class TopTokens(Way):
    """The most probable tokens of the chat or completion endpoint, matched with the labels' beginnings."""

    def probe(self) -> None:
        names = [self.labels.text_of(c).casefold() for c in range(self.labels.C)]
        unlike = len({name[:2] for name in names}) == len(names)
        self.coded = self.config.coding == "codes" or (self.config.coding == "auto" and not unlike)
        self.prompt = self.prompts(coded=self.coded)[0].without_prefill()
        said = [answer.strip() for answer in self.prompt.answers]
        if self.coded and self.labels.C > 10:
            raise AnnotatorError(f"{self.labels.C} codes do not fit into the top {TOP} tokens")
        if len({answer.casefold() for answer in said}) < len(said):
            raise AnnotatorError("two labels read the same: set coding = 'codes'")
        self.said = said
        if not self._top(self.prompt.piece("A short text."))[0]:
            raise AnnotatorError("top_logprobs is ignored")

    def describe(self) -> str:
        return f"the top {TOP} tokens in one pass (top_logprobs), by {'codes' if self.coded else 'labels'}"

    def annotate(self, texts: Sequence[str]) -> list[Answer]:
        return list(self.pool.map(self._one, texts))

    def _one(self, text: str) -> Answer:
        try:
            (top, usage), cut = self.fit(self.harmless(self.prompt.piece(text)), self._top)
        except Refused as refused:
            return abstention(self.labels.C, str(refused))
        except Trouble as trouble:
            return abstention(self.labels.C, self.TROUBLE + str(trouble))
        weights = labels_of_tokens(top, self.said)
        mass = float(weights.sum())
        if not mass > 0:
            return abstention(self.labels.C, "no label is among the most probable tokens", usage[0], cut)
        floor = FLOOR * min(math.exp(logprob) for _, logprob in top)
        probs = normalised(np.maximum(weights, floor))
        votes = expected_votes(probs, self.config.temperature, self.config.top_p)
        return Answer(probs, votes, 0.0, *usage, truncated=cut, mass=mass)

    def _top(self, piece: str) -> tuple[list[tuple[str, float]], tuple[int, int]]:
        if self.prompt.kind == "plain":
            prompt = self.prompt.before + piece + self.prompt.after
            body = self.post("/v1/completions", prompt=prompt, max_tokens=1, temperature=0, logprobs=TOP)
        else:
            messages = self.prompt.messages(piece)
            body = self.post(
                "/v1/chat/completions", messages=messages, max_tokens=1, temperature=0, logprobs=True, top_logprobs=TOP
            )
        usage = body.get("usage") or {}
        spent = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        return _top_of(self.choices(body, 1)[0]), spent


def labels_of_tokens(top: Sequence[tuple[str, float]], said: Sequence[str]) -> FloatArray:
    """(C,) the probability of the tokens that begin exactly one label; an empty or shared beginning counts for none."""
    folded = [answer.casefold() for answer in said]
    weights = np.zeros(len(said))
    for token, logprob in top:
        start = token.strip().casefold()
        meant = [c for c, answer in enumerate(folded) if start and (answer.startswith(start) or start == answer)]
        if len(meant) == 1:
            weights[meant[0]] += math.exp(logprob)
    return weights


def _top_of(choice: Any) -> list[tuple[str, float]]:
    """(token text, log-probability) pairs from either endpoint's form; entries without a number are left out."""
    found = choice.get("logprobs") or {}
    if isinstance(found.get("content"), list):
        rows = (found["content"] or [{}])[0].get("top_logprobs") or []
        pairs = [(row.get("token"), row.get("logprob")) for row in rows if isinstance(row, dict)]
    else:
        first = (found.get("top_logprobs") or [{}])[0] or {}
        pairs = list(first.items()) if isinstance(first, dict) else []
    return [(str(t), float(v)) for t, v in pairs if isinstance(v, int | float) and math.isfinite(v)]
