"""Real exchanges with servers as fixtures: recorded by tests/vllm and tests/llama_cpp, replayed by the ordinary tests.

Only our own prompts over short made-up texts are in them. `make test-vllm` and `make test-llama-cpp` with
MOLLM_WRITE_EXCHANGES=1 write them anew.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx

from mollm.annotators.openai import OpenAI
from mollm.config import AnnotatorConfig
from mollm.prompts import Shot
from mollm.records import LabelSet

DIRECTORY = Path(__file__).parent / "exchanges"
LABELS = LabelSet(("sports", "money", "music", "music video"))
TEXTS = ("The goalkeeper saved the last penalty.", "My bank raised the interest rate.", "She plays the violin.")
SHOTS = (
    Shot("Our team won the cup.", "sports"), Shot("The loan is paid off.", "money"),
    Shot("A song for two voices.", "music"), Shot("The clip shows the band on a roof.", "music video"),
)  # fmt: skip
SCENARIOS: dict[str, dict[str, Any]] = {
    "plain": {"prompt": "plain", "shots": 1, "orders": 2},
    "chat": {"prompt": "chat", "orders": 1},
    "codes": {"prompt": "chat", "coding": "codes", "prior": "content_free", "orders": 1},
    "sample": {"prompt": "plain", "shots": 1, "mode": "sample", "samples": 5, "concurrency": 1},
    "chat samples": {"prompt": "chat", "mode": "sample", "samples": 2, "concurrency": 1},
}


def opened(name: str, transport: httpx.BaseTransport, url: str = "http://recorded") -> OpenAI:
    config = AnnotatorConfig.model_validate(
        {"name": "a", "runtime": "openai", "model": "smollm2", "url": url} | SCENARIOS[name]
    )
    return OpenAI(config, LABELS, "Name the topic.", SHOTS, Path("models"), transport=transport, sleep=lambda _: None)


class Recorder(httpx.BaseTransport):
    """Passes everything on to the real server and keeps it."""

    def __init__(self) -> None:
        self.real = httpx.HTTPTransport()
        self.exchanges: list[dict[str, Any]] = []

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self.real.handle_request(request)
        response.read()
        body = json.loads(request.content) if request.content else None
        self.exchanges.append(
            {"path": request.url.path, "request": body, "status": response.status_code, "response": response.json()}
        )
        return response

    def close(self) -> None:
        self.real.close()

    def write(self, name: str, server: str = "vllm") -> None:
        lines = (json.dumps(_lean(exchange), ensure_ascii=False) for exchange in self.exchanges)
        _file(name, server).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _file(name: str, server: str) -> Path:
    (DIRECTORY / server).mkdir(parents=True, exist_ok=True)
    return DIRECTORY / server / f"{name.replace(' ', '-')}.jsonl"


def _lean(exchange: dict[str, Any]) -> dict[str, Any]:
    """Without what is null or names the machine."""
    kept = json.loads(json.dumps(exchange), object_hook=lambda d: {k: v for k, v in d.items() if v is not None})
    for model in kept["response"].get("data", []) if exchange["path"] == "/v1/models" else []:
        for key in ("root", "permission"):
            model.pop(key, None)
    for key in ("timings", "system_fingerprint"):
        kept["response"].pop(key, None)
    return kept  # type: ignore[no-any-return]


def replayed(name: str, server: str = "vllm") -> httpx.MockTransport:
    """Answers each request as the server once did; a request that it never saw fails the test."""
    lines = _file(name, server).read_text(encoding="utf-8").splitlines()
    known = {_key(e["path"], e.get("request")): e for e in map(json.loads, lines)}

    def handle(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content) if request.content else None
        found = known.get(_key(request.url.path, body))
        if found is None:
            raise AssertionError(f"never recorded: {request.url.path} {body}; write the exchanges anew")
        return httpx.Response(found["status"], json=found["response"])

    return httpx.MockTransport(handle)


def _key(path: str, body: Any) -> str:
    lean = json.loads(json.dumps(body), object_hook=lambda d: {k: v for k, v in d.items() if v is not None})
    return path + json.dumps(lean, sort_keys=True)
