"""A real llama.cpp server on SmolLM2, installed and started as `mollm up` does it (`make test-llama-cpp`)."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mollm_backend.packages import gguf_file
from mollm_backend.served import Served
from mollm_backend.settings import Settings
from mollm_backend.supervisor import llama_cpp
from tests.annotators.real_server import ended, last_lines
from tests.real_label_studio import free_port
from tests.waiting import LONG, eventually

PANEL = Path(__file__).with_name("panel.toml")
MODEL = "smollm2-135m-instruct-q4_1"  # as in the panel


@pytest.fixture(scope="session")
def llama_home() -> Path:
    """MOLLM_LLAMA_CPP: a home with llama.cpp's environment and the panel's model."""
    home = os.environ.get("MOLLM_LLAMA_CPP")
    if not home:
        pytest.skip("no llama.cpp here: `make test-llama-cpp` installs it and runs these tests")
    return Path(home).expanduser().resolve()


@pytest.fixture
def settings(llama_home: Path, tmp_path: Path) -> Settings:
    """A home of the test's own, with the environment and the models of that one."""
    (tmp_path / llama_cpp.NAME).symlink_to(llama_home / llama_cpp.NAME)
    return Settings(home=tmp_path, model_dir=llama_home / "models", panel=str(PANEL), llama_cpp_threads=1)


@pytest.fixture(scope="session")
def llama_url(llama_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with _served(llama_home, MODEL, tmp_path_factory.mktemp("llama") / "server.log") as url:
        yield url


@pytest.fixture(scope="session")
def decider_url(llama_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The same weights as a decision model."""
    directory = tmp_path_factory.mktemp("decider")
    script, made = Path(__file__).with_name("as_decider.py"), directory / "decider.gguf"
    weights = gguf_file(MODEL, llama_home / "models")
    subprocess.run([sys.executable, str(script), str(weights), str(made)], check=True, capture_output=True)
    with _served(llama_home, str(made), directory / "server.log") as url:
        yield url


@contextmanager
def _served(home: Path, source: str, log: Path) -> Iterator[str]:
    port = free_port()
    given, model = Settings(home=home, llama_cpp_threads=1), Served("smollm2", source, 1024)
    url = f"http://127.0.0.1:{port}"
    command = llama_cpp.program(given, model, port).command
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as server, ended(server):
        if not eventually(lambda: server.poll() is not None or llama_cpp.answers(url), LONG) or server.poll():
            pytest.fail(f"llama.cpp did not start:\n{last_lines(log)}")
        yield url
