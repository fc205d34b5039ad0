"""Read the most probable next tokens (`top_logprobs`), for servers that cannot report chosen tokens."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mollm.annotators import Answer, abstention
from mollm.annotators._http import Refused, Trouble
from mollm.annotators._one_pass import BIAS_BAR, CONTENT_FREE, ENOUGH_ORDERS
from mollm.annotators._thinking import refuse_thought
from mollm.annotators._ways import Way
from mollm.errors import AnnotatorError, AnnotatorUnavailable
from mollm.prompts import Prompt
from mollm.prompts.coding import WORTH_ASKING
from mollm.records import FloatArray
from mollm.signals import expected_votes, normalised, total_variation, without_prior

TOP = 20  # every server known accepts this; vLLM answers 400 above its --max-logprobs
FLOOR = 0.5  # a label that is not listed lies between 0 and the least listed probability: half of that is assumed
FURTHER_AT_MOST = 3  # more requests for one text after the first (chosen by hand: more reads more shared beginnings)

Top = list[tuple[str, float]]


@dataclass(frozen=True, slots=True)
class Beginning:
    """The start of an answer: the text `written`, its probability `mass`, the labels `alive` that start with it."""

    written: str
    mass: float
    alive: tuple[int, ...]


class TopTokens(Way):
    """Matches the most probable tokens of the chat or completion endpoint with the beginnings of the labels."""

    def probe(self) -> None:
        self.coded = self.config.coding == "codes" or (self.config.coding == "auto" and not self._unlike())
        self.asked = [prompt.without_prefill() for prompt in self.prompts(coded=self.coded)]
        self.orders = self.config.orders or (1 if len(self.asked) == 1 else None)
        self.blank: dict[int, FloatArray] = {}
        self.bias = float("nan")
        answers = [answer.strip() for answer in self.asked[0].answers]
        if self.coded and self.labels.C > 10:
            raise AnnotatorError(f"{self.labels.C} codes do not fit into the top {TOP} tokens")
        if len({answer.casefold() for answer in answers}) < len(answers):
            raise AnnotatorError("two labels read the same: set coding = 'codes'")
        top = self._top(self.asked[0], self.asked[0].piece("A short text."))[0]
        if not top:
            raise AnnotatorError("top_logprobs is ignored")
        refuse_thought(max(top, key=lambda pair: pair[1])[0])

    def _unlike(self) -> bool:
        """Whether tokens can tell the labels apart: the first one in a chat, a few more in a plain prompt."""
        names = [self.labels.text_of(c).casefold() for c in range(self.labels.C)]
        alike = self.labels.C - len({name[:2] for name in names})
        plain = self.prompts(coded=False)[0].kind == "plain" and len(set(names)) == len(names)
        return alike <= (FURTHER_AT_MOST if plain else 0)

    def describe(self) -> str:
        coding = "codes" if self.coded else "labels"
        return f"the top {TOP} tokens in one pass (top_logprobs), by {coding}{self.switch.describe()}"

    def annotate(self, texts: Sequence[str]) -> list[Answer]:
        try:
            if self.orders is None:
                self.bias = float(total_variation(self._content_free(0), self._content_free(1)).mean())
                self.orders = ENOUGH_ORDERS if self.bias > BIAS_BAR else 1
            orders = min(self.orders, len(self.asked))
            prior = None
            if self.config.prior == "content_free":
                prior = np.stack([normalised(self._content_free(order).mean(axis=0)) for order in range(orders)])
        except Trouble as trouble:
            raise AnnotatorUnavailable(f"{self.config.name}: {trouble}") from None
        return list(self.pool.map(lambda text: self._one(text, orders, prior), texts))

    def _content_free(self, order: int) -> FloatArray:
        """(3, C): the answers to the texts without content, asked once an order; for prior and position bias."""
        if order not in self.blank:
            reads = [self._read(self.asked[order], text).label_probs for text in CONTENT_FREE]
            self.blank[order] = normalised(np.stack(reads))
        return self.blank[order]

    def _one(self, text: str, orders: int, prior: FloatArray | None) -> Answer:
        """The geometric mean of the label orders' distributions, each corrected by its own prior."""
        try:
            reads = [self._read(prompt, text) for prompt in self.asked[:orders]]
        except Refused as refused:
            return abstention(self.labels.C, str(refused))
        except Trouble as trouble:
            return abstention(self.labels.C, self.TROUBLE + str(trouble))
        unread = next((read for read in reads if read.error), None)
        if unread is not None:
            return unread
        probs = np.stack([read.label_probs for read in reads])
        if prior is not None:
            probs = without_prior(probs, prior)
        merged = normalised(np.exp(np.log(np.maximum(probs, 1e-12)).mean(axis=0)))
        return Answer(
            merged, expected_votes(merged, self.config.temperature, self.config.top_p), 0.0,
            sum(read.prompt_tokens for read in reads), sum(read.completion_tokens for read in reads),
            any(read.truncated for read in reads), calls=sum(read.calls for read in reads),
            mass=float(np.mean([read.mass for read in reads])),
        )  # fmt: skip

    def _read(self, prompt: Prompt, text: str) -> Answer:
        """One prompt's distribution without prior correction. Raises Refused, Trouble.

        If an empty or shared beginning is likely, a completion asks for the tokens after it. Not every server can
        continue the model's turn in a chat: there the labels share the probability of such a beginning evenly.
        """
        answers = [answer.strip().casefold() for answer in prompt.answers]
        piece = self.harmless(prompt.piece(text))
        (top, spent), cut = self.fit(piece, lambda shorter: self._top(prompt, shorter))
        weights, open_ = beginnings(top, answers)
        calls, floor = 1, FLOOR * min((math.exp(logprob) for _, logprob in top), default=0.0)
        further = prompt.kind == "plain"
        while further and open_ and calls <= FURTHER_AT_MOST:
            likely = max(open_, key=lambda beginning: beginning.mass)
            if likely.mass < WORTH_ASKING * (weights.sum() + sum(beginning.mass for beginning in open_)):
                break
            open_.remove(likely)
            (top, more), cut = self.fit(piece, lambda shorter: self._top(prompt, shorter, likely.written))  # noqa: B023
            found, deeper = beginnings(top, answers, likely)
            weights, open_ = weights + found, open_ + deeper
            calls, spent = calls + 1, (spent[0] + more[0], spent[1] + more[1])
        for beginning in open_:
            if len(beginning.alive) < len(answers):  # a beginning that all labels share does not tell them apart
                weights[list(beginning.alive)] += beginning.mass / len(beginning.alive)
        mass = float(weights.sum())
        if not mass > 0:
            why = "no label is among the most probable tokens"
            with contextlib.suppress(ValueError):
                why += f"; the first is {max(top, key=lambda pair: pair[1])[0].strip()!r}"
            return abstention(self.labels.C, why, spent[0], cut)
        probs = normalised(np.maximum(weights, floor))
        return Answer(probs, probs, 0.0, *spent, truncated=cut, calls=calls, mass=mass)

    def _top(self, prompt: Prompt, piece: str, written: str = "") -> tuple[Top, tuple[int, int]]:
        """(the most probable tokens after the prompt and the answer `written` so far, (tokens read, written))."""
        settings: dict[str, Any] = {"max_tokens": 1, "temperature": 0}
        if prompt.kind == "plain":
            text = prompt.before + piece + prompt.after + written
            body = self.post("/v1/completions", prompt=text, logprobs=TOP, **settings)
        else:
            settings |= {"logprobs": True, "top_logprobs": TOP, **self.switch.body}
            body = self.post("/v1/chat/completions", messages=self.switch.messages(prompt.messages(piece)), **settings)
        usage = body.get("usage") or {}
        spent = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        return _top_of(self.logprobs(self.choices(body, 1)[0])), spent


def beginnings(top: Top, answers: Sequence[str], after: Beginning | None = None) -> tuple[FloatArray, list[Beginning]]:
    """((C,) the probability of the tokens that begin exactly one answer, the beginnings that several answers share).

    `answers`: the labels or codes, casefolded. `after`: what was written before these tokens. An answer that begins
    another one ("sport", "sports") is complete if a blank or a line break follows it.
    """
    written, mass = (after.written, after.mass) if after else ("", 1.0)
    alive = after.alive if after else range(len(answers))
    weights, open_ = np.zeros(len(answers)), list[Beginning]()
    for token, logprob in top:
        start, share = (written + token).strip().casefold(), mass * math.exp(logprob)
        meant = [c for c in alive if answers[c].startswith(start)]
        if start and not token.strip():
            meant = [c for c in meant if answers[c] == start]
        if len(meant) == 1:
            weights[meant[0]] += share
        elif meant:
            open_.append(Beginning(written + token, share, tuple(meant)))
    return weights, open_


def _top_of(found: Mapping[str, Any]) -> Top:
    """(token text, log-probability) pairs from the `logprobs` of either endpoint; what is no number is left out."""
    if isinstance(found.get("content"), list):
        rows = (found["content"] or [{}])[0].get("top_logprobs") or []
        pairs = [(row.get("token"), row.get("logprob")) for row in rows if isinstance(row, dict)]
    else:
        first = (found.get("top_logprobs") or [{}])[0] or {}
        pairs = list(first.items()) if isinstance(first, dict) else []
    return [(str(t), float(v)) for t, v in pairs if isinstance(v, int | float) and math.isfinite(v)]
