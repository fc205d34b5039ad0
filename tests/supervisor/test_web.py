"""`mollm web`: the web backend alone, in the foreground."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from mollm_backend import settings
from mollm_backend.supervisor import ports, whole_heads


@contextmanager
def served(home: Path, port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """`mollm web` on a port, once /health answers."""
    own = {"MOLLM_HOME": str(home), "MOLLM_HOST": "127.0.0.1", "MOLLM_PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "-m", "mollm_backend.cli", "web"], env=os.environ | own | environment, stderr=subprocess.PIPE
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=2, trust_env=False).status_code == 200
                break
            except httpx.HTTPError:
                assert process.poll() is None, process.stderr.read() if process.stderr else ""
                assert time.monotonic() < deadline
                time.sleep(0.1)
        yield process
    finally:
        process.terminate()
        process.wait(20)
        if process.stderr:
            process.stderr.close()


def test_it_serves_until_it_is_told_to_stop_and_notes_its_address(tmp_path: Path) -> None:
    port = ports.free_port("127.0.0.1", 20_400)
    with served(tmp_path, port) as process:
        loaded = settings.load(tmp_path)
        assert loaded.running_backend() == f"http://127.0.0.1:{port}"
        login = (loaded.basic_auth_user, loaded.basic_auth_password.get_secret_value())
        assert httpx.get(f"http://127.0.0.1:{port}/versions", auth=login, trust_env=False).json() == {"versions": []}
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def test_a_busy_port_is_one_line(tmp_path: Path) -> None:
    with ports.listen("127.0.0.1", 20_500) as busy:
        own = {"MOLLM_HOME": str(tmp_path), "MOLLM_HOST": "127.0.0.1", "MOLLM_PORT": str(busy.getsockname()[1])}
        command = [sys.executable, "-m", "mollm_backend.cli", "web"]
        done = subprocess.run(command, env=os.environ | own, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("mollm: Port ")
    assert len(done.stderr.splitlines()) == 1


def head(port: int, text: bytes) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", port), timeout=30)
    client.sendall(text)
    return client


def test_half_sent_heads_silence_nobody(tmp_path: Path) -> None:
    """There are eight threads; each of these connections held one for as long as it liked."""
    port = ports.free_port("127.0.0.1", 20_600)
    with served(tmp_path, port):
        begun = time.monotonic()
        half = [head(port, b"GET /health HTTP/1.1\r\nHost: here\r\nX-Slow: ") for _ in range(40)]
        # A kept connection whose second request is half sent holds none either.
        for _ in range(10):
            kept = head(port, b"GET /health HTTP/1.1\r\nHost: here\r\n\r\n")
            assert kept.recv(4096).startswith(b"HTTP/1.1 200")
            kept.sendall(b"GET /health HTTP/1.1\r\nHost")
            half.append(kept)
        for _ in range(20):
            assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=5, trust_env=False).status_code == 200
        slow = head(port, b"GET /health HTTP/1.1\r\n")
        time.sleep(0.2)
        slow.sendall(b"Host: here\r\nConnection: close\r\n\r\n")  # a head in two parts is a head
        assert slow.recv(4096).startswith(b"HTTP/1.1 200")
        while any(client.recv(1) for client in half):  # each is closed, an answer before that is read
            pass
        assert time.monotonic() - begun < whole_heads.HEAD_SECONDS + 20
        for client in [*half, slow]:
            client.close()
