"""Models that think before they answer: the probes see it, and thinking is switched off where the server can do that.

A thought costs hundreds of tokens a text, and a label's probability cannot be read where a thought begins. Servers
switch it off in different ways, and a parameter that is accepted may do nothing: each way is probed like any other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mollm.errors import AnnotatorError

OPENINGS = ("<think>", "<thinking>", "<thought>", "<reasoning>", "[THINK]", "<|channel|>analysis")
EMPTY = "<think>\n\n</think>\n\n"  # as the chat templates of Qwen3 and of its relatives write a thought left out
OPENED = re.compile(r"<think(?:ing)?>\s*$")
CLOSED_THOUGHT = re.compile(r"^\s*<think(?:ing)?>\s*</think(?:ing)?>\s*")


class Thinks(AnnotatorError):
    """The model begins its answer with a thought."""


@dataclass(frozen=True, slots=True)
class Switch:
    """One way to ask without a thought: `body` goes into a chat's request, `asks` after the user's last words, and
    `prefill` is an empty thought that the model's turn starts with."""

    name: str = ""
    body: Mapping[str, Any] = field(default_factory=dict)
    asks: str = ""
    prefill: str = ""

    def messages(self, messages: Sequence[Mapping[str, str]]) -> list[dict[str, str]]:
        """The conversation with what the switch puts into it."""
        found = [dict(message) for message in messages]
        found[-1]["content"] += self.asks
        return found + [{"role": "assistant", "content": self.prefill}] * bool(self.prefill)

    def after(self, after: str) -> str:
        """What follows the text in a rendered chat. Raises Thinks if the template opens a thought there."""
        if not self.prefill:
            if OPENED.search(after):
                raise Thinks("its chat template opens a thought")
            return after
        return after + (self.prefill.partition(">")[2] if OPENED.search(after) else self.prefill)

    def template(self) -> dict[str, Any]:
        """What of `body` goes to a server that only renders its chat template."""
        return {key: value for key, value in self.body.items() if key == "chat_template_kwargs"}

    def describe(self) -> str:
        return f", thinking switched off ({self.name})" if self.name else ""


AS_IS = Switch()
OFF = {"enable_thinking": False, "thinking": False}  # Qwen3 and others; DeepSeek and Granite
GO_ON = {"continue_final_message": True, "add_generation_prompt": False}  # vLLM; others go on by themselves
SWITCHES = (
    AS_IS,
    Switch("chat_template_kwargs", {"chat_template_kwargs": OFF}),  # vLLM, SGLang, llama.cpp
    Switch("reasoning_effort", {"reasoning_effort": "none"}),  # Ollama, OpenAI
    Switch("an empty thought", {"chat_template_kwargs": OFF} | GO_ON, prefill=EMPTY),
    Switch("/no_think", asks=" /no_think"),  # the model itself leaves its thought empty: that can only be sampled
)
UNSTOPPED = (
    "the model thinks before it answers, and neither a template argument, `reasoning_effort`, an empty thought nor "
    "/no_think stops it: serve its variant that does not think"
)


def refuse_thought(begun: str) -> None:
    """Raises Thinks if the beginning of an answer (its first token or more) is that of a thought."""
    start = begun.strip()
    if any(start.startswith(opening) or (len(start) > 2 and opening.startswith(start)) for opening in OPENINGS):
        raise Thinks(f"its answer begins with {start[:20]!r}")


def said_of(choice: Any) -> str:
    """A reply's text, without a thought that was left empty. Raises Thinks if there is only a thought."""
    message = choice.get("message")
    text = message.get("content") if isinstance(message, dict) else choice.get("text")
    apart = isinstance(message, dict) and (message.get("reasoning_content") or message.get("reasoning"))
    if not isinstance(text, str) or not text.strip():
        if apart:
            raise Thinks("its reply holds a thought alone")
        return ""
    return CLOSED_THOUGHT.sub("", text)
