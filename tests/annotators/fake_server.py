"""A small LLM server under test control: words are tokens, and a label is likely where its first word is in the text.

What it can do is switched by name, as real servers differ; `broken` may answer instead of it. It stands in for the
network (httpx.MockTransport), so that every request can be read afterwards.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from mollm.annotators.llama_cpp import LlamaCpp
from mollm.annotators.openai import OpenAI
from mollm.config import AnnotatorConfig
from mollm.prompts import Shot
from mollm.records import LabelSet

ALL = frozenset({"tokenize", "logprob_token_ids", "logprobs", "structured_outputs", "n", "allowed_token_ids"})
VLLM = ALL
LLAMA_CPP = frozenset({"llama.cpp", "logit_bias", "logprobs", "schema", "n"})  # as seen in tests/llama_cpp
OLLAMA = frozenset({"logprobs", "schema"})  # no `n`, no tokens
PLAIN = frozenset({"n"})
SCORING = {"ids": ALL, "biased": LLAMA_CPP, "top": ALL - {"logprob_token_ids"}}
EVERY = SCORING | {"samples": PLAIN}
every_scoring_way = pytest.mark.parametrize("can", SCORING.values(), ids=SCORING)
every_way = pytest.mark.parametrize("can", EVERY.values(), ids=EVERY)
BEFORE, AFTER = "<|user|>", "<|end|><|assistant|>"
Reply = httpx.Response | None


@dataclass
class FakeServer:
    """`can`: see ALL. `broken(request, body)` returns a response of its own, or None to let the server answer.

    `slots`: llama.cpp refuses a greater `n`. `first`: how much the model likes the first-listed label (nats).
    `blank`: it opens an answer with a token that is a blank alone, and only then a word. `held`: a word that ends
    within a character, which llama.cpp holds back, probabilities and all. `clamps`: like vLLM, it writes fewer tokens
    than it was asked for where the window ends, and refuses a prompt that leaves none. `thinks`: it opens each answer
    with a thought; what stands there switches that off (a key of the request, "prefill" or "/no_think"; "": nothing).
    `apart`: the thought comes apart from the content, as servers with a reasoning parser give it.
    """

    can: frozenset[str] = ALL
    model: str = "fake"
    window: int = 200
    slots: int = 2
    first: float = 0.0
    blank: bool = False
    clamps: bool = False
    held: str = ""
    thinks: str | None = None
    apart: bool = False
    broken: Callable[[httpx.Request, dict[str, Any]], Reply] = lambda request, body: None
    requests: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    words: list[str] = field(default_factory=lambda: [""])

    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.handle)

    def handle(self, request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else {}
        self.requests.append((request.url.path, body))
        found = self.broken(request, body)
        if found is not None:
            return found
        if request.url.path == "/v1/models":
            return httpx.Response(200, json={"data": [{"id": self.model, "max_model_len": self.window}]})
        if request.url.path == "/tokenize" and "tokenize" in self.can:
            tokens = self.tokens(body["prompt"] if "prompt" in body else self.chat(body))
            return httpx.Response(200, json={"tokens": tokens, "count": len(tokens), "max_model_len": self.window})
        if request.url.path == "/detokenize" and "tokenize" in self.can:
            return httpx.Response(200, json={"prompt": "".join(self.words[token] for token in body["tokens"])})
        if "llama.cpp" in self.can and request.url.path in ("/tokenize", "/detokenize", "/apply-template"):
            return httpx.Response(200, json=self.llama_cpp(request.url.path, body))
        if request.url.path == "/v1/completions":
            return self.complete(body, self.prompts(body["prompt"]))
        if request.url.path == "/v1/chat/completions":
            return self.complete(body, [self.chat(body)], chat=True)
        return httpx.Response(404, json={"error": {"message": "not found"}})

    def llama_cpp(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Its own dialect; what it does not know it leaves out without a word."""
        if path == "/tokenize":
            return {"tokens": [{"id": t, "piece": self.words[t]} for t in self.tokens(body.get("content", ""))]}
        if path == "/detokenize":
            return {"content": "".join(self.words[token] for token in body["tokens"])}
        return {"prompt": self.chat(body)}

    def prompts(self, prompt: Any) -> list[str]:
        """One text, several, or one of text and tokens side by side."""
        if isinstance(prompt, str):
            return [prompt]
        if all(isinstance(part, list) for part in prompt):
            return ["".join(self.words[token] for token in part) for part in prompt]
        if any(isinstance(part, int) for part in prompt):
            return ["".join(part if isinstance(part, str) else self.words[part] for part in prompt)]
        return list(prompt)

    def complete(self, body: dict[str, Any], prompts: Sequence[str], *, chat: bool = False) -> httpx.Response:
        longest = max(len(self.tokens(prompt)) for prompt in prompts) + body["max_tokens"]
        if self.clamps and longest - body["max_tokens"] <= self.window < longest:
            body["max_tokens"] -= longest - self.window
            if not body["max_tokens"]:
                message = "max_tokens must be at least 1, got 0. (parameter=max_tokens, value=0)"
                return httpx.Response(400, json={"error": {"message": message}})
        elif longest > self.window:
            message = f"This model's maximum context length is {self.window} tokens, you asked for {longest}."
            return httpx.Response(400, json={"error": {"message": message}})
        n = body.get("n", 1) if "n" in self.can else 1
        if "allowed_token_ids" in body and "logprob_token_ids" in self.can and "allowed_token_ids" not in self.can:
            return httpx.Response(400, json={"error": {"message": "allowed_token_ids: extra inputs are not permitted"}})
        if "llama.cpp" in self.can and n > self.slots:
            return httpx.Response(400, json={"error": {"message": f"Field 'n': Value must be <= {self.slots}"}})
        choices = [self.choice(body, prompt, chat) for prompt in prompts for _ in range(n)]
        for index, choice in enumerate(choices):
            choice["index"] = index
        usage = {"prompt_tokens": sum(len(self.tokens(p)) for p in prompts), "completion_tokens": len(choices)}
        return httpx.Response(200, json={"model": body["model"], "choices": choices, "usage": usage})

    def choice(self, body: dict[str, Any], prompt: str, chat: bool) -> dict[str, Any]:
        scores = self.scores(prompt)
        if "structured_outputs" in self.can and "structured_outputs" in body:
            options = body["structured_outputs"]["choice"]
            said = max(options, key=lambda option: scores.get(self.words[self.tokens(option)[0]], -1.0))
        elif "schema" in self.can and chat and "response_format" in body:
            options = body["response_format"]["json_schema"]["schema"]["enum"]
            words = {option: " " + self.words[self.tokens(option)[0]].strip() for option in options}
            said = json.dumps(max(options, key=lambda option: scores.get(words[option], -1.0)), ensure_ascii=False)
        else:
            said = max(scores, key=lambda word: scores[word])
        if "<think>" in scores:
            empty = self.thinks == "/no_think" and "/no_think" in prompt
            said = "<think>\n\n</think>\n\n" + self.answer(prompt) if empty else "<think> I wonder"
        logprobs: dict[str, Any] | None = None
        norm = math.log(sum(math.exp(score) for score in scores.values()))
        if body.get("logprob_token_ids") and "logprob_token_ids" in self.can:
            logprobs = self.chosen(body, prompt)
        elif body.get("post_sampling_probs") and "logit_bias" in self.can:
            lifted = {t: math.exp(scores.get(self.words[t], -10.0) + bias - 100) for t, bias in body["logit_bias"]}
            rows = [{"id": t, "prob": weight / sum(lifted.values())} for t, weight in lifted.items()]
            rows = sorted(rows, key=lambda row: -row["prob"])
            if self.words[int(rows[0]["id"])] != self.held:
                logprobs = {"content": [{"top_probs": rows}]}
        elif body.get("logprobs") and "logprobs" in self.can:
            top = sorted(scores.items(), key=lambda pair: -pair[1])[: body.get("top_logprobs") or body["logprobs"]]
            logprobs = (
                {"content": [{"top_logprobs": [{"token": w, "logprob": s - norm} for w, s in top]}]}
                if chat
                else {"top_logprobs": [{w: s - norm for w, s in top}]}
            )
        if chat and self.apart and said.startswith("<think> "):
            return {"message": {"content": "", "reasoning_content": said[8:]}, "logprobs": logprobs}
        return {"message": {"content": said}, "logprobs": logprobs} if chat else {"text": said, "logprobs": logprobs}

    def chosen(self, body: dict[str, Any], prompt: str) -> dict[str, Any]:
        """The chosen tokens' log-probabilities, step by step; where a token is forced, from before that."""
        forced = body.get("allowed_token_ids") if "allowed_token_ids" in self.can else None
        steps, said = [], []
        for _ in range(body["max_tokens"]):
            scores = self.scores(prompt)
            norm = math.log(sum(math.exp(score) for score in scores.values()))
            steps.append({f"token_id:{t}": scores.get(self.words[t], -10.0) - norm for t in body["logprob_token_ids"]})
            said.append(self.words[forced[0]] if forced else max(scores, key=lambda word: scores[word]))
            prompt += said[-1]
        tokens = [self.words.index(word) if word in self.words else -1 for word in said]
        return {"tokens": [f"token_id:{token}" for token in tokens], "top_logprobs": steps}

    def scores(self, prompt: str) -> dict[str, float]:
        """Next-word scores: the prompt's words with a blank before, those of the last text high."""
        if self.thinks is not None and prompt.rstrip().endswith(AFTER):
            return {"<think>": 9.0, " I": 0.0}
        near = set(re.findall(r"\w+", prompt.rsplit("Text:", 1)[-1]))
        liked = re.search(r"Labels:\W*(\w+)", prompt)
        gap = "" if self.blank and prompt.endswith(" ") else " "
        found = {gap + word: (4.0 if word in near else 0.0) for word in re.findall(r"\w+", prompt)} or {" a": 0.0}
        if liked:
            found[gap + liked.group(1)] += self.first
        return found | ({" ": 8.0} if self.blank and gap else {})

    def answer(self, prompt: str) -> str:
        """The likeliest word, where no thought comes before it."""
        scores = self.scores(prompt + "</think>")
        return max(scores, key=lambda word: scores[word]).strip()

    def chat(self, body: dict[str, Any]) -> str:
        """The rendered conversation: an empty thought at its end, where the request switches thinking off."""
        text = self.rendered(body["messages"])
        off = {
            "chat_template_kwargs": (body.get("chat_template_kwargs") or {}).get("enable_thinking") is False,
            "reasoning_effort": body.get("reasoning_effort") == "none",
            "prefill": bool(body.get("continue_final_message")),
        }
        if off["prefill"]:
            return text.removesuffix("<|end|>") if self.thinks == "prefill" else text + "<|assistant|>"
        return text + "<think></think>" if self.thinks and off.get(self.thinks) else text

    def tokens(self, text: str) -> list[int]:
        found = []
        for word in re.findall(r"<\|\w+\|>|</?think>| ?\w+| ?[^\w\s]|\s", text):
            if word not in self.words:
                self.words.append(word)
            found.append(self.words.index(word))
        return found

    @staticmethod
    def rendered(messages: Sequence[dict[str, str]]) -> str:
        last = messages[-1]["role"] == "assistant"
        turns = "".join(BEFORE + m["content"] + AFTER for m in messages if m["role"] != "assistant")
        return turns + (messages[-1]["content"] + "<|end|>" if last else "")


LABELS = LabelSet(("sports", "money", "science"))
TEXTS = ["all about sports", "all about money", "all about science"]


def asked(server: FakeServer, labels: LabelSet = LABELS, shots: Sequence[Shot] = (), **settings: Any) -> OpenAI:
    """The HTTP runtime in front of the fake server; waits between retries take no time."""
    usual = {"name": "a", "runtime": "openai", "model": "fake", "url": "http://fake/v1"}
    config = AnnotatorConfig.model_validate(usual | settings)
    return (LlamaCpp if config.runtime == LlamaCpp.runtime else OpenAI)(
        config,
        labels,
        "Name the topic.",
        shots,
        Path("models"),
        transport=server.transport(),
        sleep=lambda seconds: None,
    )
