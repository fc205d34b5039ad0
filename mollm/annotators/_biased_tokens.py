"""Exact shares among the label tokens from one prefill of llama.cpp's server, which cannot be asked for chosen tokens.

Lifting all label tokens by one great `logit_bias` leaves their shares as they are and puts them before all others;
`post_sampling_probs` at temperature 1, without any other sampler, then reports exactly those.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from mollm.annotators._one_pass import Question, Read
from mollm.annotators._token_ids import TokenIds
from mollm.annotators._ways import MARK, Frame
from mollm.errors import AnnotatorError
from mollm.prompts import Prompt

LIFT = 100.0  # nats: no model is as sure as that of a token that is no label
AHEAD = 40.0  # nats more for a token that is to be said; what is left of a float32 still holds the others' shares
ODD = " zq7xk 5%"  # tokens that nobody would say here: only a server that obeys reports them


class BiasedTokens(TokenIds):
    """The label tokens lifted before all others, one request a text (the server puts requests together itself)."""

    two_steps = False  # the server chooses among the lifted tokens itself, and keeps what its slots have read

    def probe(self) -> None:
        self.odd = list(dict.fromkeys(self._tokens(ODD)))
        if len(self.odd) < 2 or not np.isfinite(self._shares("A short text.", self.odd)[0]).all():
            raise AnnotatorError("logit_bias with post_sampling_probs is ignored")
        super().probe()

    def describe(self) -> str:
        return f"exact label shares in one pass (logit_bias), by {'codes' if self.coded else 'labels'}"

    def frame(self, prompt: Prompt) -> Frame:
        if prompt.kind == "plain":
            return prompt.before, prompt.after, True
        before, mark, after = self._rendered(prompt.messages(MARK)).partition(MARK)
        if not mark:
            raise AnnotatorError("the server's chat template drops or changes the text")
        return before, after + prompt.prefill, True

    def _many(self, jobs: Sequence[tuple[str, bool, Question]]) -> list[Read]:
        return [self._one(*job) for job in jobs]

    def _one(self, piece: str, cut: bool, place: Question) -> Read:
        before, after, _ = self.frames[place.order]
        prompt: Any = before + piece + after
        if place.path:
            prompt = [prompt, *place.path]  # text and tokens may stand side by side in one prompt
        values, (read, wrote) = self._shares(prompt, place.tokens)
        return Read(np.array(values), read, wrote, truncated=cut, among=True)

    def _shares(self, prompt: Any, tokens: Sequence[int]) -> tuple[list[float], tuple[int, int]]:
        """(log of each token's share among them, (tokens read, written)); NaN where the server gives none.

        A token that ends within a character (an emoji is several) is held back together with its probabilities: where
        the server happened to say such a one, it is asked again with a whole token put before them all.
        """
        found, spent = self._asked(prompt, tokens, [])
        if found is None:
            whole = [token for token in self.odd if token not in tokens][:1]
            found, more = self._asked(prompt, tokens, whole)
            spent = spent[0] + more[0], spent[1] + more[1]
        if found is None:
            return [math.nan] * len(tokens), spent
        return [_log(found.get(token, 0.0)) for token in tokens], spent

    def _asked(
        self, prompt: Any, tokens: Sequence[int], said: Sequence[int]
    ) -> tuple[dict[int, float] | None, tuple[int, int]]:
        """(the probabilities after the lift, (tokens read, written)), with `said` lifted above all others."""
        body = self.post(
            "/v1/completions", prompt=prompt, max_tokens=1, temperature=1.0, samplers=["temperature"],
            logit_bias=[[token, LIFT] for token in tokens] + [[token, LIFT + AHEAD] for token in said],
            logprobs=len(tokens) + len(said), post_sampling_probs=True,
        )  # fmt: skip
        usage = body.get("usage") or {}
        spent = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        return _probs_of(self.choices(body, 1)[0]), spent

    def _tokens(self, text: str) -> list[int]:
        return [token for token, _ in self._pieces(text)]

    def _single(self, piece: str) -> int | None:
        if piece not in self.singles:
            found = self._pieces(piece)
            self.singles[piece] = found[0][0] if len(found) == 1 and found[0][1] == piece else None
        return self.singles[piece]

    def _pieces(self, text: str) -> list[tuple[int, Any]]:
        found = self.post("/tokenize", content=text, with_pieces=True).get("tokens")
        if not isinstance(found, list) or not all(isinstance(one, dict) and "id" in one for one in found):
            raise AnnotatorError("/tokenize gives no tokens with their pieces")
        return [(int(one["id"]), one.get("piece")) for one in found]

    def _written(self, tokens: Sequence[int]) -> str:
        return str(self.post("/detokenize", tokens=list(tokens))["content"])

    def _rendered(self, messages: Sequence[dict[str, str]]) -> str:
        return str(self.post("/apply-template", messages=list(messages))["prompt"])

    def _end(self, prompt: Prompt) -> int:
        if prompt.kind == "plain":
            return self._tokens("\n")[-1]
        # A last turn of the model is left open for it to go on: only what follows shows how a turn is closed.
        said = [("user", "a"), ("assistant", MARK), ("user", "b")]
        whole = self._rendered([{"role": role, "content": content} for role, content in said])
        return (self._tokens(whole.partition(MARK)[2]) or self._tokens("\n"))[0]


def _probs_of(choice: Any) -> dict[int, float] | None:
    """Token id to its share; an entry without a finite number is NaN; None where there is no list of them."""
    content = (choice.get("logprobs") or {}).get("content") or [{}]
    rows = content[0].get("top_probs") if isinstance(content[0], dict) else None
    if not isinstance(rows, list):
        return None
    values = {row["id"]: row.get("prob") for row in rows if isinstance(row, dict) and "id" in row}
    return {token: float(v) if isinstance(v, int | float) and v >= 0 else math.nan for token, v in values.items()}


def _log(share: float) -> float:
    return math.log(share) if share > 0 else (math.nan if math.isnan(share) else -math.inf)
