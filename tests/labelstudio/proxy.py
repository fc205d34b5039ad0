"""A proxy in front of the real Label Studio that changes single answers: for faults that the server cannot be given."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.serving import Handler, serving

_HOP = {"connection", "transfer-encoding", "content-encoding", "content-length", "keep-alive"}


@dataclass
class Answer:
    """What the server said to `path`. `cut`: send only so many of its bytes, then hang up."""

    path: str
    status: int
    headers: dict[str, str]
    body: bytes
    cut: int | None = field(default=None)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @json.setter
    def json(self, value: Any) -> None:
        self.body = json.dumps(value).encode()


Change = Callable[[Answer], None]


@contextmanager
def proxied(url: str, change: Change) -> Iterator[str]:
    """Forward everything to `url`; `change` alters an answer in place. Gives the proxy's own address."""
    with httpx.Client(base_url=url, timeout=100, trust_env=False) as upstream:

        class Proxy(Handler):
            protocol_version = "HTTP/1.1"

            def _forward(self) -> None:
                headers = {key: value for key, value in self.headers.items() if key.lower() not in {"host", *_HOP}}
                said = upstream.request(self.command, self.path, content=self.body(), headers=headers)
                kept = {key: value for key, value in said.headers.items() if key not in _HOP}
                answer = Answer(self.path, said.status_code, kept, said.content)
                change(answer)
                self.answer(answer.body, answer.headers, status=answer.status, cut=answer.cut)
                self.close_connection = answer.cut is not None

            do_GET = do_POST = do_PATCH = do_DELETE = _forward

        with serving(Proxy) as address:
            yield address
