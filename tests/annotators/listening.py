"""The fake LLM server, or the decision server, on a real socket, for what goes through the whole product."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.annotators.decision_server import DecisionServer
from tests.annotators.fake_server import FakeServer
from tests.serving import Handler, serving


@contextmanager
def listening(port: int, fake: FakeServer | DecisionServer) -> Iterator[int]:
    """The fake LLM server on 127.0.0.1:`port` (0: any; yields which)."""

    class FakeLLM(Handler):
        protocol_version = "HTTP/1.1"

        def _reply(self) -> None:
            reply = fake.handle(httpx.Request(self.command, f"http://fake{self.path}", content=self.body()))
            self.answer(reply.content, {}, status=reply.status_code)

        do_GET = do_POST = _reply

    with serving(FakeLLM, port) as url:
        yield int(url.rpartition(":")[2])
