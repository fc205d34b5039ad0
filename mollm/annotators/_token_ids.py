"""Exact log-probabilities of the label tokens from one prefill: vLLM's `logprob_token_ids`."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np

from mollm.annotators import Answer
from mollm.annotators._chosen import alike, logprob, numbers, said_first, second
from mollm.annotators._http import Refused, Trouble
from mollm.annotators._one_pass import OnePass, Question, Read
from mollm.annotators._thinking import refuse_thought
from mollm.annotators._ways import MARK, Frame, Way
from mollm.errors import AnnotatorError
from mollm.prompts import Prompt
from mollm.prompts.coding import Path, TokenTree, branches, easy

IDS_AT_ONCE = 100  # vLLM accepts at most 128 logprob_token_ids in a request; some are left as a reserve


class TokenIds(Way):
    """Exact log-probabilities of the label tokens from one prefill: vLLM's `logprob_token_ids`, in batches.

    If texts often need a second place (all labels share a first token, such as a blank), the server is forced to
    generate that token and reports the place after it too: one prefill and one token instead of two prefills.
    """

    two_steps: ClassVar[bool] = True
    room: int
    begun = ""  # the token that the model itself began its last answer with

    def probe(self) -> None:
        self.prepare(coded=self.config.coding == "codes")
        if self.config.coding == "auto" and not easy(self.trees):
            self._try_codes()
        tree = self.trees[0]
        at = next(iter(tree.worth_asking({})), ())
        read = self._asked_alone("A short text.", Question(0, 0, at, tree.place(at).tokens or tree.paths[0][:1]))
        if read.error or not np.isfinite(read.logprobs).all():
            raise AnnotatorError(f"logprob_token_ids is ignored or incomplete ({read.error})")
        refuse_thought(self.begun)
        foresees = self.two_steps and self._goes_on(Question(0, 0, at, tree.place(at).tokens), read)
        self.one_pass = OnePass(self.config, self.trees, self.ask, foresees=foresees)

    def _goes_on(self, place: Question, read: Read) -> bool:
        """Whether a second place can be read in the same request: it must equal a read in a request of its own."""
        tree = self.trees[0]
        shared = [
            (value, Question(0, 0, (*place.path, token), tree.place((*place.path, token)).tokens))
            for value, token in zip(read.logprobs, place.tokens, strict=True)
            if len(tree.place((*place.path, token)).tokens) > 1
        ]
        if not shared:
            return False
        further = max(shared, key=lambda pair: pair[0])[1]
        try:
            both = self._many([(self.piece("A short text."), False, replace(place, further=further))])[0]
        except Refused:
            return False
        alone = self._alone("A short text.", further)
        if both.further is None or alone.error:
            return False
        return alike(both.logprobs, read.logprobs) and alike(both.further.logprobs, alone.logprobs)

    def _try_codes(self) -> None:
        """Use codes instead of labels if they need fewer places and fit into the window."""
        places = branches(self.trees)
        with contextlib.suppress(AnnotatorError):
            self.prepare(coded=True)
            if branches(self.trees) < places:
                return
        self.prepare(coded=False)

    def prepare(self, *, coded: bool) -> None:
        self.singles: dict[str, int | None] = {}
        self.spoken: dict[tuple[str, Path], str | None] = {}
        shown = {self.labels.text_of(c) for c in range(self.labels.C)}
        coded = coded or (self.config.coding == "auto" and len(shown) < self.labels.C)
        self.coded = coded
        prompts = self.prompts(coded=coded)
        self.frames = [self.frame(prompt) for prompt in prompts]
        self.piece = prompts[0].piece
        end = self._end(prompts[0])
        self.trees = [
            TokenTree(prompt.answers, [self._tokens(answer) for answer in prompt.answers], self._single, end)
            for prompt in prompts
        ]
        # Behind the text come a label's tokens, down to the deepest place, and the one that is asked for; a start
        # token may come before it.
        deepest = max(len(path) for tree in self.trees for path in tree.paths)
        frame = max(len(self._tokens(before + after)) for before, after, _ in self.frames)
        self.room = self.window - 2 - deepest - frame
        if self.room < 1:
            raise AnnotatorError(f"instruction, labels and shots alone overfill the window of {self.window} tokens")

    def annotate(self, texts: Sequence[str]) -> list[Answer]:
        return self.one_pass.annotate(texts)

    def describe(self) -> str:
        coding = ("codes" if self.coded else "labels") + self.switch.describe()
        further = ", a step further in the same request" if self.one_pass.foresees else ""
        return f"exact label log-probabilities in one pass{further} (logprob_token_ids), by {coding}"

    def ask(self, texts: Sequence[str], places: Sequence[Question]) -> list[Read]:
        """One Read for each place, in requests of `batch_size` prompts that share the order and the further path."""
        size = self.config.batch_size
        groups: dict[tuple[int, Path], list[int]] = {}
        for k, place in enumerate(places):
            groups.setdefault((place.order, place.further.path if place.further else ()), []).append(k)
        chunks = [some[start : start + size] for some in groups.values() for start in range(0, len(some), size)]
        pieces = {n: self._cut(texts[n]) for n in {place.n for place in places}}
        reads: dict[int, Read] = {}

        def run(chunk: list[int]) -> list[Read]:
            try:
                return self._many([(*pieces[places[k].n], places[k]) for k in chunk])
            except (Refused, Trouble):
                return [self._alone(texts[places[k].n], places[k]) for k in chunk]

        for chunk, read in zip(chunks, self.pool.map(run, chunks), strict=True):
            reads |= dict(zip(chunk, read, strict=True))
        return [reads[k] for k in range(len(places))]

    def _alone(self, text: str, place: Question) -> Read:
        """Ask one place of one text. An error goes into its Read, so that only this text becomes an abstention."""
        try:
            return self._asked_alone(text, place)
        except Refused as refused:
            return Read(np.full(len(place.tokens), np.nan), error=str(refused))
        except Trouble as trouble:
            return Read(np.full(len(place.tokens), np.nan), error=self.TROUBLE + str(trouble))

    def _asked_alone(self, text: str, place: Question) -> Read:
        """`_alone`. Raises Refused and Trouble."""
        piece, cut = self._cut(text)
        reads, halved = self.fit(piece, lambda shorter: self._many([(shorter, cut, place)]))
        read = reads[0]
        return Read(read.logprobs, read.prompt_tokens, read.completion_tokens, cut or halved, read.error)

    def _many(self, jobs: Sequence[tuple[str, bool, Question]]) -> list[Read]:
        """Ask (piece, truncated, place) jobs in one request, or in several if they need over IDS_AT_ONCE tokens."""
        prompts = self._prompts(jobs)
        wanted, forced = self._wanted([place for _, _, place in jobs])
        go_on: dict[str, Any] = {} if forced is None else {"allowed_token_ids": [forced]}
        found: list[list[dict[int, float]]] = [[{}, {}] for _ in jobs]
        read = wrote = 0
        for start in range(0, len(wanted), IDS_AT_ONCE):
            some = wanted[start : start + IDS_AT_ONCE]
            body = self.post(
                "/v1/completions", prompt=prompts, max_tokens=1 + len(go_on), temperature=0, logprobs=1,
                logprob_token_ids=some, return_tokens_as_token_ids=True, add_special_tokens=self.frames[0][2], **go_on,
            )  # fmt: skip
            for known, choice in zip(found, self.choices(body, len(jobs)), strict=True):
                self.begun = str(choice.get("text") or "")
                known[0] |= {token: logprob(choice, token, 0) for token in some}
                if forced is not None and said_first(choice, forced):
                    known[1] |= {token: logprob(choice, token, 1) for token in some}
            usage = body.get("usage") or {}
            read, wrote = read + int(usage.get("prompt_tokens") or 0), wrote + int(usage.get("completion_tokens") or 0)
        share = read // len(jobs), wrote // len(jobs)
        return [
            Read(numbers(known[0], place), *share, truncated=cut, further=second(known[1], place))
            for known, (_, cut, place) in zip(found, jobs, strict=True)
        ]

    def _wanted(self, places: Sequence[Question]) -> tuple[list[int], int | None]:
        """(the tokens to score, the token to force first or None). A token is forced to read a further place too.

        vLLM reports the log-probabilities from before `allowed_token_ids` masks tokens (the probe checks this).
        """
        wanted = dict.fromkeys(token for place in places for token in place.tokens)
        along = [place.further for place in places if place.further]
        both = wanted | dict.fromkeys(token for further in along for token in further.tokens)
        forced = {further.path[-1] for further in along}
        if len(along) == len(places) and len(forced) == 1 and len(both) <= IDS_AT_ONCE:
            return list(both), forced.pop()
        return list(wanted), None

    def _prompts(self, jobs: Sequence[tuple[str, bool, Question]]) -> list[str] | list[list[int]]:
        """The prompts as texts; as token ids if the tokenizer would read a path's text as other tokens."""
        frames = [(self.frames[place.order], piece, place.path) for piece, _, place in jobs]
        spoken = [self._spoken(frame, path) for frame, _, path in frames]
        texts = [before + piece + after for (before, after, _), piece, _ in frames]
        if None not in spoken:
            return [text + (words or "") for text, words in zip(texts, spoken, strict=True)]
        special = self.frames[0][2]
        return [
            self._tokenized(text, special=special) + list(path)
            for text, (_, _, path) in zip(texts, frames, strict=True)
        ]

    def _spoken(self, frame: Frame, path: Path) -> str | None:
        """The text of a path; None if that text gives other tokens at the prompt's end (" " + "a" becomes " a")."""
        if not path:
            return ""
        after = frame[1]
        if (after, path) not in self.spoken:
            written = self._written(path)
            same = self._tokens(after + written) == self._tokens(after) + list(path)
            self.spoken[after, path] = written if same else None
        return self.spoken[after, path]

    def _single(self, piece: str) -> int | None:
        """The single token whose text is `piece`, or None. The server is asked once for each piece."""
        if piece not in self.singles:
            found = self.post("/tokenize", prompt=piece, add_special_tokens=False, return_token_strs=True)
            written = [str(token).replace("Ġ", " ").replace("▁", " ") for token in found.get("token_strs") or [piece]]
            self.singles[piece] = int(found["tokens"][0]) if len(found["tokens"]) == 1 and written == [piece] else None
        return self.singles[piece]

    def _cut(self, text: str) -> tuple[str, bool]:
        """(the text as in the prompt, at most `room` tokens of it; whether it was cut). Only long texts are counted."""
        piece = self.harmless(self.piece(text))
        if len(piece.encode("utf-8", "replace")) <= self.room:
            return piece, False
        cut = piece[: 16 * self.room]
        tokens = self._tokens(cut)
        if len(tokens) > self.room:
            cut = self._written(tokens[: self.room]).rstrip("\ufffd")
        return cut, len(cut) < len(piece)

    def _tokens(self, text: str) -> list[int]:
        return self._tokenized(text, special=False)

    def _tokenized(self, text: str, *, special: bool) -> list[int]:
        body = self.post("/tokenize", prompt=text, add_special_tokens=special)
        found = body.get("tokens")
        if not isinstance(found, list) or (text and not found):  # llama.cpp's server ignores `prompt` here
            raise AnnotatorError("/tokenize gives no tokens")
        self.window = min(self.window, int(body.get("max_model_len") or self.window))
        return [int(token) for token in found]

    def _written(self, tokens: Sequence[int]) -> str:
        """The text of the tokens."""
        return str(self.post("/detokenize", tokens=list(tokens))["prompt"])

    def _end(self, prompt: Prompt) -> int:
        """The token after a complete label: a line break in a plain prompt, the end of the turn in a chat."""
        if prompt.kind == "plain":
            return self._tokens("\n")[-1]
        turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": MARK}]
        tokens = self.post("/tokenize", messages=turns, add_generation_prompt=False)["tokens"]
        after = self._written(tokens).partition(MARK)[2]
        return (self._tokens(after) or self._tokens("\n"))[0]
