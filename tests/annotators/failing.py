"""Replies of a server that fails."""

from __future__ import annotations

import json
from typing import Any

import httpx


def failing(*replies: httpx.Response, path: str = "/v1/completions", only: str = "") -> Any:
    """The replies in turn to requests that mention `only`, then the server itself; one reply: for ever."""
    left = list(replies)

    def broken(request: httpx.Request, body: dict[str, Any]) -> httpx.Response | None:
        if request.url.path != path or only not in json.dumps(body):
            return None
        return (left[0] if len(replies) == 1 else left.pop(0)) if left else None

    return broken


HTML = httpx.Response(200, text="<html><body>Welcome to nginx</body></html>")
CUT = httpx.Response(200, text='{"choices": [{"index": 0, "te')
BUSY = httpx.Response(429, headers={"retry-after": "1"}, json={"error": {"message": "slow down"}})
CRASH = httpx.Response(500, json={"error": {"message": "EngineDeadError"}})
