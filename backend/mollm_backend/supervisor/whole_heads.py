"""gunicorn's threads, with a connection given to one of them only when the head of its request is there.

As gunicorn has it, a thread reads the head and waits for the rest of it as long as the client likes: as many half-sent
heads as there are threads silence the server. Here the loop that accepts connections collects the heads, which holds
no thread, and closes a connection whose head takes longer than `HEAD_SECONDS`.
"""

from __future__ import annotations

import selectors
import socket
import time
from functools import partial
from typing import Any

from gunicorn import http
from gunicorn.workers.gthread import TConn, ThreadWorker

HEAD_SECONDS = 10.0  # from the connection, or from the first byte of a further request, to the end of the head
# Bytes. gunicorn reads heads up to its own limits, of which this is far above; it refuses what is longer.
LONGEST_HEAD = 256 * 1024
_END = (b"\r\n\r\n", b"\n\n")


class Worker(ThreadWorker):  # type: ignore[misc]
    """Overrides where a connection comes from the loop; all else is gunicorn's."""

    def accept(self, listener: Any) -> None:
        """Take a connection and wait for its head."""
        try:
            client, address = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        self.nr_conns += 1
        conn = TConn(self.cfg, client, address, listener.getsockname())
        conn.parser = http.get_parser(self.cfg, client, address)
        self._collect(conn)

    def on_client_socket_readable(self, conn: Any, client: Any) -> None:
        """A kept connection has a further request: its head is waited for, too."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        self._collect(conn)

    def _collect(self, conn: Any) -> None:
        conn.head, conn.timeout = b"", time.monotonic() + HEAD_SECONDS
        conn.sock.setblocking(False)
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._more, conn))

    def _more(self, conn: Any, client: socket.socket) -> None:
        """Take what has come. A client that went away is left to gunicorn's thread, which sees the end at once."""
        try:
            data = client.recv(65536)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        conn.head += data
        if data and not any(end in conn.head for end in _END) and len(conn.head) < LONGEST_HEAD:
            return
        self.poller.unregister(client)
        self.pending_conns.remove(conn)
        conn.parser.unreader.unread(conn.head)
        conn.data_ready = True
        self.enqueue_req(conn)
