"""The queue's server for the tests: the Valkey that is installed with mollm, or Debian's Redis."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mollm_backend.supervisor import valkey

KINDS = ("valkey", "redis")
REDIS = shutil.which("redis-server")


@contextmanager
def queue_server(kind: str = "valkey") -> Iterator[str]:
    """The address of one that is empty, and that ends with the block. Redis must be installed (`REDIS`)."""
    directory = Path(tempfile.mkdtemp(prefix="mollm-queue-"))
    url = f"unix://{directory / 'valkey.sock'}"
    program = list(valkey.program(directory).command)
    if kind == "redis":
        assert REDIS
        program = [
            REDIS,
            "--port",
            "0",
            "--unixsocket",
            str(directory / "valkey.sock"),
            "--save",
            "",
            "--dir",
            str(directory),
        ]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(program, stdout=log, stderr=log)
        try:
            while not valkey.answers(url):
                assert process.poll() is None, (directory / "log").read_text()
            yield url
        finally:
            process.terminate()
            process.wait()
            shutil.rmtree(directory)
