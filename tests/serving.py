"""A small HTTP server in this process, for what must be heard on a real socket."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

JSON = {"Content-Type": "application/json"}


class Handler(BaseHTTPRequestHandler):
    """What every one of them needs: the body that was sent, an answer with its length, and silence."""

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(
        self, content: bytes, headers: Mapping[str, str] = JSON, *, status: int = 200, cut: int | None = None
    ) -> None:
        """`cut`: send only so many bytes of the content, although its whole length is announced."""
        self.send_response_only(status)
        for key, value in headers.items():
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[:cut])

    def log_message(self, *_args: object) -> None:
        return


@contextmanager
def serving(handler: type[Handler], port: int = 0) -> Iterator[str]:
    """Listen on 127.0.0.1:`port` (0: any free one) until left; gives the address."""
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
