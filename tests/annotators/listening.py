"""The fake LLM server on a real socket, for what goes through the whole product."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx

from tests.annotators.fake_server import FakeServer


@contextmanager
def listening(port: int, fake: FakeServer) -> Iterator[int]:
    """The fake LLM server on 127.0.0.1:`port` (0: any; yields which)."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.answer("POST")

        def do_GET(self) -> None:
            self.answer("GET")

        def answer(self, method: str) -> None:
            content = self.rfile.read(int(self.headers.get("content-length") or 0))
            reply = fake.handle(httpx.Request(method, f"http://fake{self.path}", content=content))
            self.send_response(reply.status_code)
            self.send_header("content-length", str(len(reply.content)))
            self.end_headers()
            self.wfile.write(reply.content)

        def log_message(self, *args: object) -> None:
            """Nothing is said."""

    ThreadingHTTPServer.daemon_threads = True
    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
