"""A proxy in front of the real Label Studio that changes single answers: for faults that the server cannot be given."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx

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

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _forward(self) -> None:
                content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                headers = {key: value for key, value in self.headers.items() if key.lower() not in {"host", *_HOP}}
                said = upstream.request(self.command, self.path, content=content, headers=headers)
                kept = {key: value for key, value in said.headers.items() if key not in _HOP}
                answer = Answer(self.path, said.status_code, kept, said.content)
                change(answer)
                self.send_response_only(answer.status)
                for key, value in answer.headers.items():
                    self.send_header(key, value)
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                self.wfile.write(answer.body[: answer.cut])
                self.close_connection = answer.cut is not None

            do_GET = do_POST = do_PATCH = do_DELETE = _forward

            def log_message(self, *_args: object) -> None:
                return

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()
