"""A real Label Studio as a context manager, for tests that must not believe a fake. Knows nothing of pytest."""

from __future__ import annotations

import ctypes
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx

USER = "person@example.com"
PASSWORD = "a-long-enough-password"
TOKEN = "test-token-of-a-throwaway-server"
START_SECONDS = 1800.0  # a first start takes a minute on an idle machine; this only bounds a hang


@dataclass(frozen=True)
class RealLabelStudio:
    url: str
    token: str
    user: str
    password: str
    directory: Path


def executable() -> Path:
    """Where Label Studio lies: MOLLM_LABEL_STUDIO, or as `mollm up --demo` installs it."""
    home = Path(os.environ.get("MOLLM_HOME", "~/.mollm")).expanduser()
    return Path(os.environ.get("MOLLM_LABEL_STUDIO") or home / "label-studio" / "bin" / "label-studio")


def free_port() -> int:
    """A port that nobody has, below those that the system gives to outgoing connections: a server that needs a minute
    to open it still finds it free."""
    while True:
        port = random.SystemRandom().randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


@contextmanager
def label_studio(
    directory: Path, extra: Mapping[str, str] | None = None, *, port: int | None = None
) -> Iterator[RealLabelStudio]:
    """Start Label Studio on a free (or the given) port with its data in `directory`; ends it, and only it, on leaving.

    The first start in a directory makes the database (about a minute); `extra` overrides its environment. It waits
    longer than by default (1 and 3 s) for a backend to answer: a test machine may be busy.
    """
    directory.mkdir(parents=True, exist_ok=True)
    port = port or free_port()
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    environment |= {
        "LABEL_STUDIO_BASE_DATA_DIR": str(directory), "LABEL_STUDIO_USERNAME": USER,
        "LABEL_STUDIO_PASSWORD": PASSWORD, "LABEL_STUDIO_USER_TOKEN": TOKEN,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true", "USE_DEFAULT_BANNED_SUBNETS": "false",
        "USER_ADDITIONAL_BANNED_SUBNETS": "169.254.0.0/16,fe80::/10", "COLLECT_ANALYTICS": "False",
        "LATEST_VERSION_CHECK": "False", "ML_TIMEOUT_HEALTH": "60", "ML_TIMEOUT_SETUP": "60", **(extra or {}),
    }  # fmt: skip
    command = [str(executable()), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    log = directory / f"label-studio-{port}.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True, cwd=directory,
            preexec_fn=_die_with_parent,
        )  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            _wait(url, process, log)
            yield RealLabelStudio(url, TOKEN, USER, PASSWORD, directory)
        finally:
            _end(process)


def _die_with_parent() -> None:
    """On Linux, end with a test run that is killed: then nobody is left to end the server."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise RuntimeError(f"Label Studio ended at once:\n{log.read_text(errors='replace')[-3000:]}")
        try:
            if httpx.get(f"{url}/health", timeout=10).status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.5)
    raise RuntimeError(f"Label Studio did not answer within {START_SECONDS:.0f} s: see {log}")


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the process group that we started, whatever it started in turn."""
    for sign, patience in ((signal.SIGTERM, 10), (signal.SIGKILL, 10)):
        try:
            os.killpg(process.pid, sign)
        except ProcessLookupError:
            break
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            continue
