"""The exact shares of the label tokens from one prefill, for llama.cpp's server.

This server cannot report chosen tokens. Adding one large `logit_bias` to all label tokens makes them the most probable
tokens and keeps their shares. `post_sampling_probs` at temperature 1 with no other sampler then reports these shares.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mollm.annotators._one_pass import Question, Read
from mollm.annotators._token_ids import TokenIds
from mollm.annotators._ways import MARK, Frame
from mollm.errors import AnnotatorError
from mollm.prompts import Prompt

LIFT = 100.0  # nats: more than any lead of another token over a label token
AHEAD = 40.0  # nats on top of LIFT for a forced token: the other shares, near e^-40 = 4e-18, still fit a float32
ODD = " zq7xk 5%"  # tokens that no model generates here: only a server that obeys `logit_bias` reports them


class BiasedTokens(TokenIds):
    """Raises all label tokens by one bias. Sends one request a text: the server itself batches requests."""

    two_steps = False  # the server picks the token itself; a second request is cheap: its slots keep the prompt

    def probe(self) -> None:
        self.odd = list(dict.fromkeys(self._tokens(ODD)))
        if len(self.odd) < 2 or not np.isfinite(self._shares("A short text.", self.odd)[0]).all():
            raise AnnotatorError("logit_bias with post_sampling_probs is ignored")
        super().probe()

    def describe(self) -> str:
        coding = "codes" if self.coded else "labels"
        return f"exact label shares in one pass (logit_bias), by {coding}{self.switch.describe()}"

    def frame(self, prompt: Prompt) -> Frame:
        if prompt.kind == "plain":
            return prompt.before, prompt.after, True
        before, mark, after = self._rendered(prompt.messages(MARK)).partition(MARK)
        if not mark:
            raise AnnotatorError("the server's chat template drops or changes the text")
        return before, self.switch.after(after) + prompt.prefill, True

    def _many(self, jobs: Sequence[tuple[str, bool, Question]]) -> list[Read]:
        return [self._one(*job) for job in jobs]

    def _one(self, piece: str, cut: bool, place: Question) -> Read:
        before, after, _ = self.frames[place.order]
        prompt: Any = before + piece + after
        if place.path:
            prompt = [prompt, *place.path]  # a prompt may mix text and token ids
        values, (read, wrote) = self._shares(prompt, place.tokens)
        return Read(np.array(values), read, wrote, truncated=cut, among=True)

    def _shares(self, prompt: Any, tokens: Sequence[int]) -> tuple[list[float], tuple[int, int]]:
        """(nats: the log of each token's share among `tokens`, (tokens read, written)); NaN if the server gives none.

        The server holds back a token that ends inside a character (an emoji has several tokens), and with it its
        probabilities. If it generated such a token, it is asked again with a forced token that is whole.
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
        self, prompt: Any, tokens: Sequence[int], forced: Sequence[int]
    ) -> tuple[dict[int, float] | None, tuple[int, int]]:
        """(the shares after the bias or None, (tokens read, written)). `forced` tokens are raised above all others."""
        body = self.post(
            "/v1/completions", prompt=prompt, max_tokens=1, temperature=1.0, samplers=["temperature"],
            logit_bias=[[token, LIFT] for token in tokens] + [[token, LIFT + AHEAD] for token in forced],
            logprobs=len(tokens) + len(forced), post_sampling_probs=True,
        )  # fmt: skip
        usage = body.get("usage") or {}
        spent = int(usage.get("prompt_tokens") or 0), int(usage.get("completion_tokens") or 0)
        return _probs_of(self.logprobs(self.choices(body, 1)[0])), spent

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
        return str(self.post("/apply-template", messages=list(messages), **self.switch.template())["prompt"])

    def _end(self, prompt: Prompt) -> int:
        if prompt.kind == "plain":
            return self._tokens("\n")[-1]
        # The template leaves a last model turn open. A user turn after it shows how the template closes a turn.
        turns = [("user", "a"), ("assistant", MARK), ("user", "b")]
        whole = self._rendered([{"role": role, "content": content} for role, content in turns])
        return (self._tokens(whole.partition(MARK)[2]) or self._tokens("\n"))[0]


def _probs_of(found: Mapping[str, Any]) -> dict[int, float] | None:
    """The share of each token id, NaN if an entry has no number >= 0. None if `logprobs` has no list of shares."""
    content = found.get("content") or [{}]
    rows = content[0].get("top_probs") if isinstance(content[0], dict) else None
    if not isinstance(rows, list):
        return None
    values = {row["id"]: row.get("prob") for row in rows if isinstance(row, dict) and "id" in row}
    return {token: float(v) if isinstance(v, int | float) and v >= 0 else math.nan for token, v in values.items()}


def _log(share: float) -> float:
    return math.log(share) if share > 0 else (math.nan if math.isnan(share) else -math.inf)
