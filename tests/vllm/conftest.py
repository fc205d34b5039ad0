"""A real vLLM server (CPU build, an environment of its own: `make test-vllm`) on SmolLM2."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from mollm_backend.packages import ensure_model
from tests.annotators.real_server import ended, last_lines
from tests.conftest import heavy_home

START_SECONDS = 600  # 47 on an idle machine, 214 were seen on a busy one


@pytest.fixture(scope="session")
def model_dir() -> Path:
    return ensure_model("smollm2-135m-instruct", heavy_home(), print)


@pytest.fixture(scope="session")
def vllm_url(model_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MOLLM_VLLM_URL: a server that runs already (serving `smollm2`); else one is started from MOLLM_VLLM."""
    running, home = os.environ.get("MOLLM_VLLM_URL"), os.environ.get("MOLLM_VLLM")
    if running:
        yield running
        return
    if not home:
        pytest.skip("no vLLM here: `make test-vllm` installs it and runs these tests")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        str(Path(home) / "bin" / "python"), "-m", "vllm.entrypoints.openai.api_server", "--model", str(model_dir),
        "--host", "127.0.0.1", "--port", str(port), "--served-model-name", "smollm2", "--max-model-len", "1024",
        "--dtype", "float32", "--enforce-eager", "--max-logprobs", "50", "--block-size", "32",
    ]  # fmt: skip
    log = tmp_path_factory.mktemp("vllm") / "server.log"
    env = os.environ | {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1"}
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out, env=env) as server, ended(server):
        yield _wait(f"http://127.0.0.1:{port}", server, log)


def _wait(url: str, server: subprocess.Popen[bytes], log: Path) -> str:
    """Until it answers; the first log-probabilities request takes up to 40 s and is made here."""
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until and server.poll() is None:
        try:
            if httpx.get(url + "/health", timeout=5).status_code == 200:
                body = {"model": "smollm2", "prompt": "a", "max_tokens": 1, "logprobs": 1}
                httpx.post(url + "/v1/completions", json=body, timeout=120).raise_for_status()
                return url
        except httpx.TransportError:
            pass
        time.sleep(1)
    pytest.fail(f"vLLM did not start:\n{last_lines(log)}")
