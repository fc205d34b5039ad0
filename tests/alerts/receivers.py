"""What alerts are sent to in a test: a web server that keeps what is posted, and a mail server that keeps mails."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_string
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any


@dataclass
class Posts:
    """`status` is what it answers, `delay` seconds before it does; `bodies` with their `headers` came in."""

    status: int = 200
    delay: float = 0.0
    bodies: list[bytes] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    url: str = ""

    @property
    def alerts(self) -> list[dict[str, Any]]:
        return [alert for body in self.bodies for alert in json.loads(body)["alerts"]]


@contextmanager
def web_receiver() -> Iterator[Posts]:
    kept = Posts()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            time.sleep(kept.delay)
            kept.bodies.append(body)
            kept.headers.append(dict(self.headers))
            self.send_response(kept.status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_args: Any) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    kept.url = f"http://127.0.0.1:{server.server_address[1]}/hook"
    thread = Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield kept
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@dataclass
class Mails:
    """`refuse`: it takes no mail. `texts` came in; `logins` are what was given with AUTH."""

    refuse: bool = False
    texts: list[str] = field(default_factory=list)
    logins: list[str] = field(default_factory=list)
    port: int = 0

    def parsed(self) -> list[Any]:
        return [message_from_string(text) for text in self.texts]


async def _session(kept: Mails, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async def say(line: str) -> None:
        writer.write(f"{line}\r\n".encode())
        await writer.drain()

    await say("220 here")
    while line := (await reader.readline()).decode().strip():
        word = line.split(" ", 1)[0].upper()
        if word == "EHLO":
            await say("250-here")
            await say("250 AUTH PLAIN")
        elif word == "AUTH":
            kept.logins.append(line)
            await say("235 in")
        elif word == "RCPT" and kept.refuse:
            await say("550 no such user")
        elif word == "DATA":
            await say("354 go on")
            text = (await reader.readuntil(b"\r\n.\r\n")).decode()
            kept.texts.append(text.removesuffix("\r\n.\r\n").replace("\r\n", "\n"))
            await say("250 taken")
        elif word == "QUIT":
            await say("221 bye")
            break
        else:
            await say("250 fine")
    writer.close()


@contextmanager
def mail_receiver(tls: ssl.SSLContext | None = None) -> Iterator[Mails]:
    """`tls`: what is said is encrypted from the first byte on."""
    kept, ready, loop = Mails(), Event(), asyncio.new_event_loop()

    async def serve() -> None:
        server = await asyncio.start_server(lambda r, w: _session(kept, r, w), "127.0.0.1", 0, ssl=tls)
        kept.port = server.sockets[0].getsockname()[1]
        ready.set()
        async with server:
            await over.wait()

    over = asyncio.Event()
    thread = Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait(5)
    try:
        yield kept
    finally:
        loop.call_soon_threadsafe(over.set)
        thread.join()
        loop.close()
