"""The ways in which an OpenAI-compatible server can be asked; each proves itself by a probe before it is used."""

from __future__ import annotations

import math
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, TypeVar

import numpy as np

from mollm.annotators import Answer, abstention
from mollm.annotators._http import Refused, Server, Trouble
from mollm.annotators._one_pass import OnePass, Place, Read, prompts_for
from mollm.config import AnnotatorConfig
from mollm.errors import AnnotatorError, AnnotatorUnavailable
from mollm.prompts import Prompt, Shot, codes_for
from mollm.prompts.coding import Path, TokenTree
from mollm.prompts.parsing import parse_answer, parse_code
from mollm.records import FloatArray, LabelSet
from mollm.signals import expected_votes, normalised

MARK = "\ue000\ue001"
IDS_AT_ONCE = 100  # vLLM takes at most 128 logprob_token_ids a request
TOP = 20  # what every server grants; more is a 400 in vLLM beyond --max-logprobs
SPECIAL = re.compile(r"<(?=\||/?(?:s|bos|eos|pad|unk|start_of_turn|end_of_turn|think)\b)|\[(?=/?INST\])")
FLOOR = 0.5  # a label that is not listed has at most the least listed probability: half of it, in expectation

T = TypeVar("T")


class Way(ABC):
    """One way to ask. `probe` raises AnnotatorError where the server does not truly support it."""

    TROUBLE: ClassVar[str] = "the server failed: "

    def __init__(
        self, config: AnnotatorConfig, labels: LabelSet, instruction: str, shots: Sequence[Shot],
        server: Server, window: int,
    ) -> None:  # fmt: skip
        self.config, self.labels, self.server, self.window = config, labels, server, window
        self.instruction, self.shots = instruction, shots
        self.pool = ThreadPoolExecutor(max_workers=config.concurrency, thread_name_prefix=config.name)

    @abstractmethod
    def probe(self) -> None: ...

    @abstractmethod
    def annotate(self, texts: Sequence[str]) -> list[Answer]: ...

    @abstractmethod
    def describe(self) -> str: ...

    def close(self) -> None:
        self.pool.shutdown(wait=False, cancel_futures=True)

    def prompts(self, *, coded: bool) -> list[Prompt]:
        return prompts_for(self.config, self.labels, self.instruction, self.shots, coded=coded)

    def post(self, path: str, **body: Any) -> Any:
        """A request to the model; an answer from another model than the one asked is refused."""
        found = self.server.call("POST", path, {"model": self.config.model, **body})
        said = found.get("model", self.config.model)
        if path.startswith("/v1") and said not in (self.config.model, f"{self.config.model}:latest"):
            raise AnnotatorError(f"asked {self.config.model!r}, but {said!r} answered: the server ignores `model`")
        return found

    def choices(self, body: Any, count: int) -> list[Any]:
        """The `count` choices in order of their index. Raises Trouble for fewer than asked."""
        found = body.get("choices")
        if not isinstance(found, list) or len(found) < count or not all(isinstance(one, dict) for one in found):
            got = len(found) if isinstance(found, list) else 0
            raise Trouble(f"{count} choices were asked for, {got} came")
        return sorted(found[:count], key=lambda choice: choice.get("index", 0))

    def fit(self, piece: str, ask: Callable[[str], T]) -> tuple[T, bool]:
        """`ask(piece)`; where it overflows the window, the text is halved until it fits: (reply, truncated)."""
        cut = piece
        while True:
            try:
                return ask(cut), len(cut) < len(piece)
            except Refused as refused:
                if not refused.overflow or len(cut) < 8:
                    raise
                cut = cut[: len(cut) // 2]

    @staticmethod
    def harmless(piece: str) -> str:
        """What reads like a special token in a text is opened by a blank: servers parse it anywhere in a prompt."""
        return SPECIAL.sub(lambda match: match.group() + " ", piece)


class TokenIds(Way):
    """Exact log-probabilities of the label tokens from one prefill: vLLM's `logprob_token_ids`, in batches."""

    def probe(self) -> None:
        self.prepare(coded=self.config.coding == "codes")
        if self.config.coding == "auto" and not all(tree.easy for tree in self.trees):
            self.prepare(coded=True)
        place = Place(0, 0, *next(iter(self.trees[0].branches.items()), ((), self.trees[0].paths[0][:1])))
        read = self._single("A short text.", place)
        if read.error or not np.isfinite(read.logprobs).all():
            raise AnnotatorError(f"logprob_token_ids is ignored or incomplete ({read.error})")
        self.one_pass = OnePass(self.config, self.trees, self.ask)

    def prepare(self, *, coded: bool) -> None:
        shown = {self.labels.text_of(c) for c in range(self.labels.C)}
        coded = coded or (self.config.coding == "auto" and len(shown) < self.labels.C)
        self.coded = coded
        prompts = self.prompts(coded=coded)
        self.frames = [self._frame(prompt) for prompt in prompts]
        self.piece = prompts[0].piece
        probe = self.post("/tokenize", prompt=prompts[0].answers[0], add_special_tokens=False)
        self.window = min(self.window, int(probe.get("max_model_len") or self.window))
        end = self._end(prompts[0])
        self.trees = [TokenTree.of([self._tokens(answer) for answer in prompt.answers], end) for prompt in prompts]
        self.spoken = {
            at: self.post("/detokenize", tokens=list(at))["prompt"] if at else ""
            for tree in self.trees
            for at in tree.branches
        }
        self.room = self.window - 2 - max(len(self._tokens(before + after)) for before, after, _ in self.frames)
        if self.room < 1:
            raise AnnotatorError(f"instruction, labels and shots alone overfill the window of {self.window} tokens")

    def annotate(self, texts: Sequence[str]) -> list[Answer]:
        return self.one_pass.annotate(texts)

    def describe(self) -> str:
        coding = "codes" if self.coded else "labels"
        return f"exact label log-probabilities in one pass (logprob_token_ids), by {coding}"

    def ask(self, texts: Sequence[str], places: Sequence[Place]) -> list[Read]:
        """All places, those of one order and path together in requests of `batch_size` prompts."""
        groups: dict[tuple[int, Path], list[int]] = {}
        for k, place in enumerate(places):
            groups.setdefault((place.order, place.path), []).append(k)
        size = self.config.batch_size
        chunks = [ks[start : start + size] for ks in groups.values() for start in range(0, len(ks), size)]
        pieces = {n: self._cut(texts[n]) for n in {place.n for place in places}}
        reads: dict[int, Read] = {}

        def run(chunk: list[int]) -> list[Read]:
            first = places[chunk[0]]
            try:
                return self._many([pieces[places[k].n] for k in chunk], first)
            except (Refused, Trouble):
                return [self._single(texts[places[k].n], places[k]) for k in chunk]

        for chunk, read in zip(chunks, self.pool.map(run, chunks), strict=True):
            reads |= dict(zip(chunk, read, strict=True))
        return [reads[k] for k in range(len(places))]

    def _single(self, text: str, place: Place) -> Read:
        """One text alone; whatever goes wrong with it is its own abstention."""
        piece, cut = self._cut(text)
        try:
            reads, halved = self.fit(piece, lambda shorter: self._many([(shorter, cut)], place))
        except Refused as refused:
            return Read(np.full(len(place.tokens), np.nan), error=str(refused))
        except Trouble as trouble:
            return Read(np.full(len(place.tokens), np.nan), error=self.TROUBLE + str(trouble))
        read = reads[0]
        return Read(read.logprobs, read.prompt_tokens, read.completion_tokens, cut or halved, read.error)

    def _many(self, pieces: Sequence[tuple[str, bool]], place: Place) -> list[Read]:
        before, after, special = self.frames[place.order]
        prompts = [before + piece + after + self.spoken.get(place.path, "") for piece, _ in pieces]
        rows: list[FloatArray] = []
        usage = {"prompt_tokens": 0, "completion_tokens": 0}
        for start in range(0, len(place.tokens), IDS_AT_ONCE):
            wanted = place.tokens[start : start + IDS_AT_ONCE]
            body = self.post(
                "/v1/completions", prompt=prompts, max_tokens=1, temperature=0, logprobs=1,
                logprob_token_ids=list(wanted), return_tokens_as_token_ids=True, add_special_tokens=special,
            )  # fmt: skip
            found = self.choices(body, len(prompts))
            rows.append(np.array([[_logprob(choice, token) for token in wanted] for choice in found]))
            for key in usage:
                usage[key] += int((body.get("usage") or {}).get(key) or 0)
        logprobs = np.concatenate(rows, axis=1)
        share = [usage[key] // len(prompts) for key in ("prompt_tokens", "completion_tokens")]
        return [Read(row, share[0], share[1], cut) for row, (_, cut) in zip(logprobs, pieces, strict=True)]

    def _cut(self, text: str) -> tuple[str, bool]:
        """The text as it stands in the prompt, at most `room` tokens of it; only a long one is counted."""
        piece = self.harmless(self.piece(text))
        if len(piece.encode("utf-8", "replace")) <= self.room:
            return piece, False
        cut = piece[: 16 * self.room]
        tokens = self._tokens(cut)
        if len(tokens) > self.room:
            cut = self.post("/detokenize", tokens=tokens[: self.room])["prompt"].rstrip("\ufffd")
        return cut, len(cut) < len(piece)

    def _frame(self, prompt: Prompt) -> tuple[str, str, bool]:
        """(before, after, whether the server adds its own start token): a chat is rendered by the server's template."""
        if prompt.kind == "plain":
            return prompt.before, prompt.after, True
        tokens = self.post("/tokenize", messages=prompt.messages(MARK), add_generation_prompt=True)["tokens"]
        before, mark, after = self.post("/detokenize", tokens=tokens)["prompt"].partition(MARK)
        if not mark:
            raise AnnotatorError("the server's chat template drops or changes the text")
        return before, after + prompt.prefill, False

    def _tokens(self, text: str) -> list[int]:
        found = self.post("/tokenize", prompt=text, add_special_tokens=False).get("tokens")
        if not isinstance(found, list):
            raise AnnotatorError("/tokenize gives no tokens")
        return [int(token) for token in found]

    def _end(self, prompt: Prompt) -> int:
        """The token after a finished label: a line break in a plain text, what closes the turn in a chat."""
        if prompt.kind == "plain":
            return self._tokens("\n")[-1]
        said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": MARK}]
        tokens = self.post("/tokenize", messages=said, add_generation_prompt=False)["tokens"]
        after = self.post("/detokenize", tokens=tokens)["prompt"].partition(MARK)[2]
        return (self._tokens(after) or self._tokens("\n"))[0]


class TopTokens(Way):
    """The most probable tokens of the chat or completion endpoint, matched with the labels' beginnings."""

    def probe(self) -> None:
        names = [self.labels.text_of(c).casefold() for c in range(self.labels.C)]
        unlike = len({name[:2] for name in names}) == len(names)
        self.coded = self.config.coding == "codes" or (self.config.coding == "auto" and not unlike)
        self.prompt = self.prompts(coded=self.coded)[0]
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


class Samples(Way):
    """T samples: constrained to the labels where the server truly does that, else free and parsed."""

    def probe(self) -> None:
        self.coded = self.config.coding == "codes"
        self.prompt = self.prompts(coded=self.coded)[0]
        self.said = [answer.strip() for answer in self.prompt.answers]
        self.length = 4 + max(len(answer.encode()) for answer in self.said)
        self.constrained = self._holds_to_choice()
        self.together = self._gives_many()
        self._draw(self.prompt.piece("A short text."), 1)

    def describe(self) -> str:
        held = "held to the labels (structured_outputs)" if self.constrained else "parsed"
        return f"{self.config.samples} samples {'a request' if self.together else 'one by one'}, {held}"

    def annotate(self, texts: Sequence[str]) -> list[Answer]:
        return list(self.pool.map(self._one, texts))

    def _one(self, text: str) -> Answer:
        wanted = self.config.samples
        try:
            (said, usage), cut = self.fit(
                self.harmless(self.prompt.piece(text)), lambda piece: self._draw(piece, wanted)
            )
        except Refused as refused:
            return abstention(self.labels.C, str(refused))
        except Trouble as trouble:
            return abstention(self.labels.C, self.TROUBLE + str(trouble))
        votes = np.zeros(self.labels.C)
        for answer in said:
            found = (parse_code if self.coded else parse_answer)(answer, self.said)
            if found is not None:
                votes[found] += 1 / wanted
        calls = 1 if self.together else wanted
        return Answer(votes.copy(), votes, max(0.0, 1 - float(votes.sum())), *usage, truncated=cut, calls=calls)

    def _draw(self, piece: str, count: int) -> tuple[list[str], tuple[int, int]]:
        settings: dict[str, Any] = {
            "max_tokens": self.length, "temperature": self.config.temperature, "top_p": self.config.top_p,
        }  # fmt: skip
        if self.constrained:
            settings["structured_outputs"] = {"choice": self.said}
        said: list[str] = []
        read = wrote = 0
        while len(said) < count:
            n = count - len(said) if self.together else 1
            body = self._send(piece, n=n, **settings)
            said += [_text_of(choice) for choice in self.choices(body, n)]
            usage = body.get("usage") or {}
            read, wrote = read + int(usage.get("prompt_tokens") or 0), wrote + int(usage.get("completion_tokens") or 0)
        return said, (read, wrote)

    def _send(self, piece: str, **settings: Any) -> Any:
        if self.prompt.kind == "chat":
            return self.post("/v1/chat/completions", messages=self.prompt.messages(piece), **settings)
        return self.post(
            "/v1/completions", prompt=self.prompt.before + piece + self.prompt.after, stop=["\n"], **settings
        )

    def _holds_to_choice(self) -> bool:
        """A choice that no model would make by itself shows whether the parameter is obeyed."""
        odd = "zq7xk"
        try:
            body = self._send(
                self.prompt.piece("A short text."),
                n=1,
                max_tokens=12,
                temperature=0,
                structured_outputs={"choice": [odd]},
            )
        except Refused:
            return False
        return _text_of(self.choices(body, 1)[0]).strip() == odd

    def _gives_many(self) -> bool:
        """llama.cpp's server takes `n` and gives one choice."""
        try:
            body = self._send(self.prompt.piece("A short text."), n=2, max_tokens=1, temperature=1.0)
        except Refused:
            return False
        return len(body.get("choices") or []) == 2


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


def _logprob(choice: Any, token: int) -> float:
    """The log-probability of one token id, NaN where the server did not give it, -inf where it is masked."""
    try:
        value = choice["logprobs"]["top_logprobs"][0].get(f"token_id:{token}")
    except (KeyError, IndexError, TypeError, AttributeError):
        return math.nan
    if not isinstance(value, int | float):
        return math.nan
    return -math.inf if value <= -9999 else float(value)


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


def _text_of(choice: Any) -> str:
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    return text if isinstance(text, str) else ""


__all__ = ["AnnotatorUnavailable", "Samples", "TokenIds", "TopTokens", "Way", "codes_for", "labels_of_tokens"]
