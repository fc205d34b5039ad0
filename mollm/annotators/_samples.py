"""T sampled answers as in the paper: for comparison, and for servers that give no log-probabilities."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from mollm.annotators import Answer, abstention
from mollm.annotators._http import Refused, Trouble
from mollm.annotators._thinking import Thinks, refuse_thought, said_of
from mollm.annotators._ways import Frame, Way
from mollm.errors import AnnotatorError, AnnotatorUnavailable
from mollm.prompts import Prompt
from mollm.prompts.parsing import parse_answer, parse_code

THOUGHT = 8  # tokens of a thought that is left empty: a tag and line breaks, twice
Hold = Callable[[Sequence[str]], dict[str, Any]]


class Samples(Way):
    """T samples: constrained to the labels if the server really does that, else free and parsed."""

    def probe(self) -> None:
        self.coded = self.config.coding == "codes"
        self.prompt, self.rendered = self._rendered()
        self.answers = [answer.strip() for answer in self.prompt.answers]
        self.lead = " " if self.prompt.answers[0].startswith(" ") else ""
        self.length = 4 + max(len(answer.encode()) for answer in self.answers) + THOUGHT * bool(self.switch.asks)
        self.hold = next((hold for hold in (_choice, _schema) if self._holds_to(hold)), None)
        self.at_once = self._gives_at_once()
        replies, _ = self._draw(self.prompt.piece("A short text."), 1)
        refuse_thought(replies[0])

    def describe(self) -> str:
        held = f"held to the labels ({HELD_BY[self.hold]})" if self.hold else "parsed"
        many = {1: "one by one", self.config.samples: "a request"}.get(self.at_once, f"by {self.at_once}")
        return f"{self.config.samples} samples {many}, {held}{self.switch.describe()}"

    def annotate(self, texts: Sequence[str]) -> list[Answer]:
        return list(self.pool.map(self._one, texts))

    def _one(self, text: str) -> Answer:
        wanted = self.config.samples
        try:
            (replies, usage), cut = self.fit(
                self.harmless(self.prompt.piece(text)), lambda piece: self._draw(piece, wanted)
            )
        except (Refused, Thinks) as refused:
            return abstention(self.labels.C, str(refused))
        except Trouble as trouble:
            return abstention(self.labels.C, self.TROUBLE + str(trouble))
        counts = np.zeros(self.labels.C)
        for reply in map(_unquoted, replies) if self.hold is _schema else replies:
            found = (parse_code if self.coded else parse_answer)(reply, self.answers)
            if found is not None:
                counts[found] += 1
        calls = -(-wanted // self.at_once)
        votes, silent = counts / wanted, 1 - float(counts.sum()) / wanted
        said = " ".join(replies[0].split())[:60] if replies else ""
        error = "" if counts.any() else f"none of {wanted} samples names a label; the first begins with {said!r}"
        return Answer(votes.copy(), votes, silent, *usage, truncated=cut, calls=calls, error=error)

    def _draw(self, piece: str, count: int) -> tuple[list[str], tuple[int, int]]:
        settings: dict[str, Any] = {
            "max_tokens": self.length, "temperature": self.config.temperature, "top_p": self.config.top_p,
        }  # fmt: skip
        if self.hold:
            settings |= self.hold(self.prompt.answers)
        replies: list[str] = []
        read = wrote = 0
        while len(replies) < count:
            n = min(count - len(replies), self.at_once)
            body = self._send(piece, n=n, **settings)
            replies += [said_of(choice) for choice in self.choices(body, n)]
            usage = body.get("usage") or {}
            read, wrote = read + int(usage.get("prompt_tokens") or 0), wrote + int(usage.get("completion_tokens") or 0)
        return replies, (read, wrote)

    def _rendered(self) -> tuple[Prompt, Frame | None]:
        """The prompt with its frame (before, after), or with None if the server does not render its chat template."""
        prompt = self.prompts(coded=self.coded)[0]
        try:
            return prompt, self.frame(prompt)
        except (AnnotatorUnavailable, Thinks):
            raise
        except AnnotatorError:
            return prompt.without_prefill(), None

    def _send(self, piece: str, **settings: Any) -> Any:
        if self.rendered is None:
            messages = self.switch.messages(self.prompt.messages(piece))
            return self.post("/v1/chat/completions", messages=messages, **settings, **self.switch.body)
        before, after, special = self.rendered
        extra = {} if special else {"add_special_tokens": False}
        stop = ["\n"] if self.prompt.kind == "plain" else None
        return self.post("/v1/completions", prompt=before + piece + after, stop=stop, **extra, **settings)

    def _holds_to(self, hold: Hold) -> bool:
        """Whether the server obeys the parameter: it must choose a word that no model would choose by itself."""
        odd, piece = self.lead + "zq7xk", self.prompt.piece("A short text.")
        try:
            body = self._send(piece, n=1, max_tokens=12, temperature=0, **hold([odd]))
        except Refused:
            return False
        return said_of(self.choices(body, 1)[0]).strip(' "') == odd.strip()

    def _gives_at_once(self) -> int:
        """How many samples one request gives. Some servers accept any `n` but give one sample; others refuse an `n`
        above their number of slots."""
        for n in dict.fromkeys((self.config.samples, 2)):
            try:
                body = self._send(self.prompt.piece("A short text."), n=n, max_tokens=1, temperature=1.0)
            except Refused:
                continue
            if len(body.get("choices") or []) == n:
                return n
        return 1


def _choice(answers: Sequence[str]) -> dict[str, Any]:
    """vLLM's parameter."""
    return {"structured_outputs": {"choice": list(answers)}}


def _schema(answers: Sequence[str]) -> dict[str, Any]:
    """OpenAI's parameter, which llama.cpp's server and Ollama know: the label comes as a JSON string."""
    schema = {"type": "string", "enum": [answer.strip() for answer in answers]}
    return {"response_format": {"type": "json_schema", "json_schema": {"name": "label", "schema": schema}}}


def _unquoted(answer: str) -> str:
    """The content of a JSON string. An answer that is no JSON string (it may be cut) is returned unchanged."""
    try:
        found = json.loads(answer)
    except ValueError:
        return answer
    return found if isinstance(found, str) else answer


HELD_BY = {_choice: "structured_outputs", _schema: "JSON schema"}  # the names that `describe` shows
