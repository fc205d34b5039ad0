"""The base class of the ways to ask an OpenAI-compatible server. Each way is probed before it is used."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, TypeVar

from mollm.annotators import Answer
from mollm.annotators._http import Refused, Trouble
from mollm.annotators._one_pass import prompts_for
from mollm.annotators._servers import Servers
from mollm.annotators._thinking import AS_IS, Switch
from mollm.config import AnnotatorConfig
from mollm.errors import AnnotatorError
from mollm.prompts import Prompt, Shot
from mollm.records import LabelSet

MARK = "\ue000\ue001"  # private-use characters: they stand for the text while the server renders its chat template
SPECIAL = re.compile(r"<(?=\||/?(?:s|bos|eos|pad|unk|start_of_turn|end_of_turn|think)\b)|\[(?=/?INST\])")
"""The starts of the special tokens of common chat models (Llama, Qwen, Gemma, Mistral)."""

Frame = tuple[str, str, bool]
T = TypeVar("T")


class Way(ABC):
    """One way to ask. `probe` raises AnnotatorError if the server does not really support it."""

    TROUBLE: ClassVar[str] = "the server failed: "
    room: int | None = None  # tokens that the window leaves for a text; None: the server alone knows its window

    def __init__(
        self, config: AnnotatorConfig, labels: LabelSet, instruction: str, shots: Sequence[Shot],
        server: Servers, window: int, switch: Switch = AS_IS,
    ) -> None:  # fmt: skip
        self.config, self.labels, self.server, self.window = config, labels, server, window
        self.switch = switch
        self.instruction, self.shots = instruction, shots
        self.pool = ThreadPoolExecutor(
            max_workers=config.concurrency * len(server.each), thread_name_prefix=config.name
        )

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
        """The reply to a request. Raises AnnotatorError if another model than the requested one answered."""
        found = self.server.call("POST", path, {"model": self.config.model, **body})
        model = found.get("model", self.config.model)
        if path.startswith("/v1") and model not in (self.config.model, f"{self.config.model}:latest"):
            raise AnnotatorError(f"asked {self.config.model!r}, but {model!r} answered: the server ignores `model`")
        return found

    def choices(self, body: Any, count: int) -> list[Any]:
        """The first `count` choices, in the order of their index. Raises Trouble if there are fewer."""
        found = body.get("choices")
        if not isinstance(found, list) or len(found) < count or not all(isinstance(one, dict) for one in found):
            got = len(found) if isinstance(found, list) else 0
            raise Trouble(f"{count} choices were asked for, {got} came")
        return sorted(found[:count], key=lambda choice: choice.get("index", 0))

    @staticmethod
    def logprobs(choice: Any) -> dict[str, Any]:
        """The part `logprobs` of a choice; empty where there is none. Raises Trouble if it is no object."""
        found = choice.get("logprobs") or {}
        if not isinstance(found, dict):
            raise Trouble(f"`logprobs` is {found!r:.40}, not an object")
        return found

    def fit(self, piece: str, ask: Callable[[str], T]) -> tuple[T, bool]:
        """(the reply of `ask(piece)`, whether it was cut). A text that overflows the window is halved until it fits."""
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
        """Put a blank into what looks like a special token in a text: servers parse them anywhere in a prompt."""
        return SPECIAL.sub(lambda match: match.group() + " ", piece)

    def frame(self, prompt: Prompt) -> Frame:
        """(before, after, whether the server adds its own start token). A chat is rendered by the server's template."""
        if prompt.kind == "plain":
            return prompt.before, prompt.after, True
        asked = {**self.switch.template(), "messages": prompt.messages(MARK), "add_generation_prompt": True}
        tokens = self.post("/tokenize", **asked).get("tokens")
        if not tokens:
            raise AnnotatorError("/tokenize does not render the chat template")
        before, mark, after = str(self.post("/detokenize", tokens=tokens).get("prompt")).partition(MARK)
        if not mark:
            raise AnnotatorError("the server's chat template drops or changes the text")
        return before, self.switch.after(after) + prompt.prefill, False
