"""The first free port, counted up from the wanted one."""

from __future__ import annotations

import errno
import socket

from mollm.errors import ConfigError

TRIES = 100


def listen(host: str, first: int) -> socket.socket:
    """A listening socket on the first free port at or after `first`. Raises ConfigError where none of 100 is free.

    The socket itself is handed on to the web server, so that nobody can take the port in between, and
    requests that come while the server is started anew wait instead of failing.
    """
    for port in range(first, min(first + TRIES, 65536)):
        server = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind((host, port))
            server.listen(256)
        except OSError as error:
            server.close()
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                raise ConfigError(f"MOLLM_HOST={host} is no address of this machine: {error.strerror}.") from None
            continue
        return server
    raise ConfigError(f"No free port from {first} to {min(first + TRIES, 65536) - 1} on {host}: set MOLLM_PORT.")


def free_port(host: str, first: int) -> int:
    """The first port at or after `first` on which nobody listens now (for a server that opens its own socket)."""
    with listen(host, first) as server:
        port: int = server.getsockname()[1]
        return port
