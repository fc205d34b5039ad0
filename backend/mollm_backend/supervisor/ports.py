"""Find the first free port, starting with the wanted one."""

from __future__ import annotations

import errno
import socket

from mollm.errors import ConfigError

TRIES = 100  # ports; a guess: enough for many homes on one machine


def listen(host: str, first: int, tries: int = TRIES) -> socket.socket:
    """A listening socket on the first free port at or after `first`. Raises ConfigError if none of `tries` is free.

    The open socket is passed to the web server: no other process can take the port in between, and requests that
    come during a restart of the server wait and do not fail.
    """
    for port in range(first, min(first + tries, 65536)):
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
    last = min(first + tries, 65536) - 1
    which = f"Port {first} is not free" if first == last else f"No free port from {first} to {last}"
    raise ConfigError(f"{which} on {host}: set MOLLM_PORT.")


def free_port(host: str, first: int) -> int:
    """The first port at or after `first` on which nobody listens now (for a server that opens its own socket)."""
    with listen(host, first) as server:
        port: int = server.getsockname()[1]
        return port


def reachable(host: str) -> str:
    """The address at which this machine reaches a server that listens on `host`."""
    named = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104 - a comparison, not a bind
    return f"[{named}]" if ":" in named and not named.startswith("[") else named
