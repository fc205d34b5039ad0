"""Ports, the embedded Valkey, Label Studio's environment."""

from __future__ import annotations

import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from mollm.errors import ConfigError
from mollm_backend.served import Served
from mollm_backend.settings import Settings
from mollm_backend.supervisor import label_studio, llama_cpp, ports, valkey
from mollm_backend.supervisor.environments import STAMP
from mollm_backend.supervisor.processes import Family, Program


def test_a_busy_port_means_the_next_free_one() -> None:
    with ports.listen("127.0.0.1", 20_000) as first:
        busy = first.getsockname()[1]
        with ports.listen("127.0.0.1", busy) as second:
            assert second.getsockname()[1] > busy
        assert ports.free_port("127.0.0.1", busy) > busy


def test_an_address_of_another_machine_is_an_error_that_says_so() -> None:
    with pytest.raises(ConfigError, match="MOLLM_HOST"):
        ports.listen("192.0.2.1", 20_000)


@pytest.fixture
def running(tmp_path: Path) -> Iterator[tuple[Family, str]]:
    family = Family(tmp_path, lambda _line: None, grace=1.0)
    url = f"unix://{tmp_path / 'valkey' / 'valkey.sock'}"
    valkey.start(family, tmp_path / "valkey", url)
    yield family, url
    family.end_all()


def test_valkey_listens_on_a_private_socket_only_and_keeps_what_it_holds(
    running: tuple[Family, str], tmp_path: Path
) -> None:
    family, url = running
    path = tmp_path / "valkey" / "valkey.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    with redis.Redis.from_url(url) as client:
        assert client.config_get("port") == {"port": "0"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        client.set("kept", "yes")
    family.end_all()
    assert not valkey.answers(url)
    valkey.start(family, tmp_path / "valkey", url)
    with redis.Redis.from_url(url) as client:
        assert client.get("kept") == b"yes"


def test_a_home_with_a_long_name_is_refused_with_a_remedy(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="REDIS_URL"):
        valkey.program(tmp_path / ("x" * 120))


def test_a_half_installed_label_studio_is_made_anew_and_a_foreign_directory_left_alone(tmp_path: Path) -> None:
    environment = tmp_path / "label-studio"
    there = label_studio.environment(tmp_path)
    steps = there.steps()
    assert [step.name for step in steps] == ["label-studio-venv", "label-studio-build", "label-studio-install"]
    (environment / "half").touch()
    assert there.steps()
    assert not (environment / "half").exists()
    there.mark_installed()
    assert there.steps() == []
    (environment / STAMP).unlink()
    (environment / "mine").touch()
    with pytest.raises(ConfigError, match="move it away"):
        there.steps()
    assert (environment / "mine").exists()


def test_only_the_steps_of_its_installation_are_told_as_one(tmp_path: Path) -> None:
    steps = [step.name for step in llama_cpp.environment(tmp_path).steps()]
    assert steps == list(llama_cpp.INSTALLS)
    (tmp_path / "install.gguf").touch()
    given = Settings(home=tmp_path, llama_cpp_threads=3)
    model = Served("mine", str(tmp_path / "install.gguf"), 512)
    server = llama_cpp.program(given, model, 9190)
    assert not server.name.startswith(llama_cpp.INSTALLS)
    assert server.command[2:] == (model.source, "mine", "9190", "512", "2", "3")


def test_a_database_whose_first_start_was_cut_short_is_made_anew(tmp_path: Path) -> None:
    data = tmp_path / "label-studio-data"
    label_studio.program(tmp_path, "127.0.0.1", 8080)
    (data / "half.sqlite3").touch()
    label_studio.program(tmp_path, "127.0.0.1", 8080)
    assert not (data / "half.sqlite3").exists()
    (data / label_studio.STARTED).touch()
    (data / "whole.sqlite3").touch()
    label_studio.program(tmp_path, "127.0.0.1", 8080)
    assert (data / "whole.sqlite3").exists()


def test_the_account_is_kept_in_private_files_and_its_token_fits(tmp_path: Path) -> None:
    who = label_studio.account(tmp_path)
    assert who == label_studio.account(tmp_path)
    assert len(who.token) == 40
    for path in (tmp_path / "secrets").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_socket_is_handed_on(tmp_path: Path) -> None:
    family = Family(tmp_path, lambda _line: None, grace=1.0)
    code = "import socket, sys; s = socket.socket(fileno=int(sys.argv[1])); s.accept()[0].sendall(b'here')"
    with ports.listen("127.0.0.1", 20_000) as server:
        fd = server.fileno()
        family.start(Program("echo", (sys.executable, "-c", code, str(fd)), keep=(fd,)))
        try:
            with socket.create_connection(server.getsockname(), timeout=120) as client:
                assert client.recv(4) == b"here"
        finally:
            family.end_all()
