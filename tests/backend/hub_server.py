"""A small model hub on this machine: the few routes by which `huggingface_hub` finds and fetches a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import unquote, urlsplit

COMMIT = "a" * 40


class Hub(BaseHTTPRequestHandler):
    """Serves `models` (id -> directory); `gated` ids need a token, `sizes` overrides what a file is said to weigh."""

    models: dict[str, Path]
    gated: set[str]
    sizes: dict[str, int]
    asked: list[str]
    protocol_version = "HTTP/1.1"

    def log_message(self, *_args: Any) -> None:
        return

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.asked.append(f"{self.command} {path}")
        api = path.startswith("/api/models/")
        parts = path.removeprefix("/api/models/").strip("/").split("/")
        name, rest = "/".join(parts[:2]), parts[2:]
        if name not in self.models:
            return self._say(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        if name in self.gated and "Authorization" not in self.headers:
            return self._say(403, {"error": "gated"}, {"X-Error-Code": "GatedRepo"})
        revision = rest[1] if len(rest) > 1 else "main"
        if revision not in ("main", "v1", COMMIT):
            return self._say(404, {"error": "no revision"}, {"X-Error-Code": "RevisionNotFound"})
        files = sorted(path for path in self.models[name].rglob("*") if path.is_file())
        if not api:
            return self._file(self.models[name] / "/".join(rest[2:]))
        rows = [(str(file.relative_to(self.models[name])), file) for file in files]
        if rest[:1] == ["tree"]:
            return self._say(200, [
                {"type": "file", "path": row, "size": self.sizes.get(row, file.stat().st_size), "oid": _sha(file)[:40]}
                for row, file in rows
            ])  # fmt: skip
        siblings = [{"rfilename": row, "size": self.sizes.get(row, file.stat().st_size)} for row, file in rows]
        return self._say(200, {"id": name, "sha": COMMIT, "siblings": siblings})

    def _file(self, file: Path) -> None:
        body = file.read_bytes()
        self.send_response(200)
        self.send_header("ETag", f'"{_sha(file)[:40]}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _say(self, status: int, body: Any, headers: dict[str, str] | None = None) -> None:
        text = json.dumps(body).encode()
        self.send_response(status)
        for name, value in (
            {"Content-Type": "application/json", "Content-Length": str(len(text))} | (headers or {})
        ).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(text)


def _sha(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@contextmanager
def serve(models: dict[str, Path]) -> Iterator[tuple[str, type[Hub]]]:
    """(address, the running hub's class: change its `gated` and `sizes`, read what was `asked`)."""
    handler = type("Here", (Hub,), {"models": models, "gated": set(), "sizes": {}, "asked": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", handler
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
