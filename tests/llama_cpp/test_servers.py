"""The servers that `mollm up` starts: they answer, come back after a kill or a hang, and end with who started them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mollm.annotators import open_annotator
from mollm.config import AnnotatorConfig
from mollm.errors import AnnotatorUnavailable, ModelFileError
from mollm_backend import served
from mollm_backend.settings import Settings
from mollm_backend.supervisor import llama_cpp
from mollm_backend.supervisor.llama_cpp import Servers
from mollm_backend.supervisor.processes import Family
from tests.annotators.exchanging import LABELS, SHOTS, TEXTS
from tests.waiting import LONG, eventually

pytestmark = pytest.mark.llama_cpp
SECOND = '\n[[annotators]]\nname = "second"\nruntime = "llama_cpp"\n'


@pytest.fixture
def told() -> list[str]:
    return []


@pytest.fixture
def family(settings: Settings, told: list[str]) -> Iterator[Family]:
    family = Family(settings.home, told.append, grace=1.0)
    yield family
    family.end_all()


def member(settings: Settings) -> AnnotatorConfig:
    return settings.panel_config().annotators[0]


def answers(config: AnnotatorConfig) -> None:
    with open_annotator(config, LABELS, "Name the topic.", SHOTS) as annotator:
        assert "exact label shares in one pass" in annotator.describe()
        found = annotator.annotate(TEXTS)
    assert not any(answer.error for answer in found)


def back(family: Family, url: str) -> bool:
    """Whether the family has brought the server back (called again and again, as `mollm up` does)."""
    family.watch()
    return llama_cpp.answers(url)


def test_it_is_started_noted_and_asked(settings: Settings, family: Family, told: list[str]) -> None:
    servers = Servers(settings, family, told.append)
    servers.start()
    servers.wait()
    assert told == ["llama.cpp loads smollm2-135m-instruct-q4_1"]
    config = served.reached(member(settings), settings.home)
    assert config.url
    answers(config)
    with llama_cpp.lent(settings, member(settings), told.append) as lent:
        assert lent == config, "a command asks the server that runs"
    servers.forget()
    assert not served.reached(member(settings), settings.home).url


def test_a_killed_server_and_a_hung_one_come_back_on_the_same_port(
    settings: Settings, family: Family, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    servers = Servers(settings, family, told.append)
    servers.start()
    servers.wait()
    (name,), (url,) = servers.urls, servers.urls.values()
    servers.look()
    first = family.children[name].process.pid
    os.kill(first, signal.SIGKILL)
    assert eventually(lambda: family.children[name].process.poll() is not None, LONG)
    assert eventually(lambda: back(family, url), LONG), told
    assert family.children[name].process.pid != first
    monkeypatch.setattr(llama_cpp, "LOOK_EVERY", 0.0)
    monkeypatch.setattr(llama_cpp, "MISSES", 1)
    servers.look()
    os.kill(family.children[name].process.pid, signal.SIGSTOP)
    servers.look()
    assert told[-1] == f"{name} does not answer: it is started anew"
    assert eventually(lambda: family.children[name].process.poll() is not None, LONG)
    assert eventually(lambda: back(family, url), LONG), told
    answers(served.reached(member(settings), settings.home))


@pytest.mark.parametrize("broken", [True, False], ids=["a broken file", "no file"])
def test_one_that_cannot_be_served_is_told_of_and_the_other_goes_on(
    settings: Settings, family: Family, told: list[str], broken: bool, tmp_path: Path
) -> None:
    if broken:
        (tmp_path / "other.gguf").write_bytes(b"no weights")
    panel = tmp_path / "two.toml"
    panel.write_text(Path(settings.panel).read_text() + f'{SECOND}model = "{tmp_path / "other.gguf"}"\n')
    servers = Servers(settings.model_copy(update={"panel": str(panel)}), family, told.append)
    servers.start()
    servers.wait()
    (problem,) = [line for line in told if line.startswith("problem: ")]
    assert ("llama-cpp-of-other did not start" if broken else "other.gguf gives no GGUF file") in problem
    assert problem.endswith("The others go on without it.")
    answers(served.reached(member(settings), settings.home))


def test_a_command_starts_one_for_itself_and_ends_it(settings: Settings, told: list[str]) -> None:
    with pytest.raises(AnnotatorUnavailable, match=r"no llama\.cpp server runs for smollm2.*: start `mollm up`"):
        open_annotator(served.reached(member(settings), settings.home), LABELS, "Name the topic.", SHOTS)
    with llama_cpp.lent(settings, member(settings), told.append) as config:
        answers(config)
    assert config.url
    assert not llama_cpp.answers(config.url)
    absent = member(settings).model_copy(update={"model": "none.gguf"})
    with pytest.raises(ModelFileError, match=r"none\.gguf gives no GGUF file"), llama_cpp.lent(settings, absent, print):
        pass


def test_it_ends_when_its_parent_is_killed(settings: Settings) -> None:
    model = served.wanted([member(settings)])[0]
    command = llama_cpp.program(settings, model, llama_cpp.ports.free_port("127.0.0.1", 20_000)).command
    program = f"import subprocess, time; print(subprocess.Popen({command!r}).pid, flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        time.sleep(2)  # the server reads who its parent is at its start
        parent.kill()
    assert eventually(lambda: not Path(f"/proc/{pid}").exists() or "zombie" in _state(pid), LONG)


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text().splitlines()[2]
    except OSError:
        return "zombie"
