"""One model at one address or at several: a request goes where the fewest are, and no server gets more than it bears.

A server that fails again and again is left out (see `Circuit`), and tried again after a pause.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import httpx

from mollm.annotators._http import ATTEMPTS, Server, Trouble
from mollm.errors import AnnotatorUnavailable


class Servers:
    """OpenAI-compatible servers of one model, started alike. Thread-safe. `concurrency`: the most requests at once to
    each; how many it bears is found out (see `Limit`)."""

    def __init__(
        self,
        urls: str | Sequence[str],
        key: str | None,
        timeout: float,
        concurrency: int,
        *,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        given = (urls,) if isinstance(urls, str) else tuple(urls)
        self.each = [Server(url, key, timeout, concurrency, transport=transport, sleep=sleep) for url in given]
        self.url = ", ".join(server.url for server in self.each)
        self._changed = threading.Condition()

    @property
    def hung(self) -> int:
        """How many times in a row each of them hung, at least."""
        return min(server.hung for server in self.each)

    @property
    def last(self) -> str:
        """What went wrong last."""
        return "; ".join(server.last for server in self.each if server.last)

    def is_up(self) -> bool:
        """Whether any of them answers at all."""
        return any(server.is_up() for server in self.each)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None, attempts: int = ATTEMPTS) -> Any:
        """The reply as a JSON object, from a server that gives one: one after the other is tried, the last of them
        `attempts` times. Raises what `Server.call` raises."""
        failed: list[Server] = []
        while True:
            server, is_last = self._taken(failed)
            try:
                found = server.call(method, path, body, attempts if is_last else 1)
            except (Trouble, AnnotatorUnavailable):
                if is_last:
                    raise
                failed.append(server)
            else:
                for other in self.each:  # so that one that hangs from the start is not waited for to the end
                    other.slowest = other.slowest or server.slowest
                    other.answers = other.answers or server.answers
                return found
            finally:
                with self._changed:
                    server.under_way -= 1
                    self._changed.notify_all()

    def _taken(self, failed: Sequence[Server]) -> tuple[Server, bool]:
        """The server for a request, which it then has, and whether no other is left to try. Waits where all have as
        many requests as they bear."""
        with self._changed:
            while True:
                usable = [server for server in self.each if server.circuit.lets_in()] or self.each
                untried = [server for server in usable if server not in failed]
                free = [server for server in untried or usable if server.under_way < server.limit.now]
                if free:
                    chosen = min(free, key=lambda server: server.under_way)
                    chosen.under_way += 1
                    return chosen, len(untried) <= 1
                self._changed.wait(1.0)

    def close(self) -> None:
        """Close all connections."""
        for server in self.each:
            server.close()
