"""The most probable next tokens, for servers that give no chosen ones: `top_logprobs`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mollm.annotators import Answer, abstention
from mollm.annotators._http import Refused, Trouble
from mollm.annotators._one_pass import CONTENT_FREE
from mollm.annotators._ways import Way
from mollm.errors import AnnotatorError
from mollm.prompts import Prompt
from mollm.records import FloatArray
from mollm.signals import expected_votes, normalised, without_prior

TOP = 20  # what every server grants; more is a 400 in vLLM beyond --max-logprobs
FLOOR = 0.5  # a label that is not listed has at most the least listed probability: half of it, in expectation


class TopTokens(Way):
    """The most probable tokens of the chat or completion endpoint, matched with the labels' beginnings."""

    def probe(self) -> None:
        names = [self.labels.text_of(c).casefold() for c in range(self.labels.C)]
        unlike = len({name[:2] for name in names}) == len(names)
        self.coded = self.config.coding == "codes" or (self.config.coding == "auto" and not unlike)
        orders = self.prompts(coded=self.coded)[: self.config.orders or 1]
        self.asked = [prompt.without_prefill() for prompt in orders]
        said = [answer.strip() for answer in self.asked[0].answers]
        if self.coded and self.labels.C > 10:
            raise AnnotatorError(f"{self.labels.C} codes do not fit into the top {TOP} tokens")
        if len({answer.casefold() for answer in said}) < len(said):
            raise AnnotatorError("two labels read the same: set coding = 'codes'")
        self.priors: list[FloatArray] | None = None
        if not self._top(self.asked[0], self.asked[0].piece("A short text."))[0]:
            raise AnnotatorError("top_logprobs is ignored")

    def describe(self) -> str:
        return f"the top {TOP} tokens in one pass (top_logprobs), by {'codes' if self.coded else 'labels'}"

    def annotate(self, texts: Sequence[str]) -> list[Answer]:
        if self.config.prior == "content_free" and self.priors is None:
            blank = [[self._read(prompt, text).label_probs for text in CONTENT_FREE] for prompt in self.asked]
            self.priors = [normalised(np.mean(probs, axis=0)) for probs in blank]
        return list(self.pool.map(self._one, texts))

    def _one(self, text: str) -> Answer:
        """The geometric mean over the label orders, each corrected by its own prior."""
        try:
            reads = [self._read(prompt, text) for prompt in self.asked]
        except Refused as refused:
            return abstention(self.labels.C, str(refused))
        except Trouble as trouble:
            return abstention(self.labels.C, self.TROUBLE + str(trouble))
        unread = next((read for read in reads if read.error), None)
        if unread is not None:
            return unread
        probs = np.stack([read.label_probs for read in reads])
        if self.priors is not None:
            probs = without_prior(probs, np.stack(self.priors))
        merged = normalised(np.exp(np.log(np.maximum(probs, 1e-12)).mean(axis=0)))
        return Answer(
            merged, expected_votes(merged, self.config.temperature, self.config.top_p), 0.0,
            sum(read.prompt_tokens for read in reads), sum(read.completion_tokens for read in reads),
            any(read.truncated for read in reads), calls=len(reads), mass=float(np.mean([read.mass for read in reads])),
        )  # fmt: skip

    def _read(self, prompt: Prompt, text: str) -> Answer:
        """One prompt's distribution, not corrected. Raises Refused, Trouble."""
        piece = self.harmless(prompt.piece(text))
        (top, usage), cut = self.fit(piece, lambda shorter: self._top(prompt, shorter))
        weights = labels_of_tokens(top, [answer.strip() for answer in prompt.answers])
        mass = float(weights.sum())
        if not mass > 0:
            return abstention(self.labels.C, "no label is among the most probable tokens", usage[0], cut)
        floor = FLOOR * min(math.exp(logprob) for _, logprob in top)
        probs = normalised(np.maximum(weights, floor))
        return Answer(probs, probs, 0.0, *usage, truncated=cut, mass=mass)

    def _top(self, prompt: Prompt, piece: str) -> tuple[list[tuple[str, float]], tuple[int, int]]:
        settings = {"max_tokens": 1, "temperature": 0}
        if prompt.kind == "plain":
            text = prompt.before + piece + prompt.after
            body = self.post("/v1/completions", prompt=text, logprobs=TOP, **settings)
        else:
            messages = prompt.messages(piece)
            body = self.post("/v1/chat/completions", messages=messages, logprobs=True, top_logprobs=TOP, **settings)
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
