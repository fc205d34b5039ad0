"""T sampled answers: the paper's own way, for comparison and for servers that give no log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from mollm.annotators import Answer, abstention
from mollm.annotators._http import Refused, Trouble
from mollm.annotators._ways import Frame, Way
from mollm.errors import AnnotatorError, AnnotatorUnavailable
from mollm.prompts import Prompt
from mollm.prompts.parsing import parse_answer, parse_code


class Samples(Way):
    """T samples: constrained to the labels where the server truly does that, else free and parsed."""

    def probe(self) -> None:
        self.coded = self.config.coding == "codes"
        self.prompt, self.rendered = self._rendered()
        self.said = [answer.strip() for answer in self.prompt.answers]
        self.lead = " " if self.prompt.answers[0].startswith(" ") else ""
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
        counts = np.zeros(self.labels.C)
        for answer in said:
            found = (parse_code if self.coded else parse_answer)(answer, self.said)
            if found is not None:
                counts[found] += 1
        calls = 1 if self.together else wanted
        votes, silent = counts / wanted, 1 - float(counts.sum()) / wanted
        return Answer(votes.copy(), votes, silent, *usage, truncated=cut, calls=calls)

    def _draw(self, piece: str, count: int) -> tuple[list[str], tuple[int, int]]:
        settings: dict[str, Any] = {
            "max_tokens": self.length, "temperature": self.config.temperature, "top_p": self.config.top_p,
        }  # fmt: skip
        if self.constrained:
            settings["structured_outputs"] = {"choice": list(self.prompt.answers)}
        said: list[str] = []
        read = wrote = 0
        while len(said) < count:
            n = count - len(said) if self.together else 1
            body = self._send(piece, n=n, **settings)
            said += [_text_of(choice) for choice in self.choices(body, n)]
            usage = body.get("usage") or {}
            read, wrote = read + int(usage.get("prompt_tokens") or 0), wrote + int(usage.get("completion_tokens") or 0)
        return said, (read, wrote)

    def _rendered(self) -> tuple[Prompt, Frame | None]:
        """The prompt as one text where the server renders its own chat template for us, else as messages."""
        prompt = self.prompts(coded=self.coded)[0]
        try:
            return prompt, self.frame(prompt)
        except AnnotatorUnavailable:
            raise
        except AnnotatorError:
            return prompt.without_prefill(), None

    def _send(self, piece: str, **settings: Any) -> Any:
        if self.rendered is None:
            return self.post("/v1/chat/completions", messages=self.prompt.messages(piece), **settings)
        before, after, special = self.rendered
        extra = {} if special else {"add_special_tokens": False}
        stop = ["\n"] if self.prompt.kind == "plain" else None
        return self.post("/v1/completions", prompt=before + piece + after, stop=stop, **extra, **settings)

    def _holds_to_choice(self) -> bool:
        """A choice that no model would make by itself shows whether the parameter is obeyed."""
        odd, piece = self.lead + "zq7xk", self.prompt.piece("A short text.")
        try:
            body = self._send(piece, n=1, max_tokens=12, temperature=0, structured_outputs={"choice": [odd]})
        except Refused:
            return False
        return _text_of(self.choices(body, 1)[0]) == odd

    def _gives_many(self) -> bool:
        """llama.cpp's server takes `n` and gives one choice."""
        try:
            body = self._send(self.prompt.piece("A short text."), n=2, max_tokens=1, temperature=1.0)
        except Refused:
            return False
        return len(body.get("choices") or []) == 2


def _text_of(choice: Any) -> str:
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    return text if isinstance(text, str) else ""
