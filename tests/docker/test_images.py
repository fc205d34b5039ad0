"""The images and the compose file, as far as they can be tried without a Docker engine.

The quick tests read the files; `make test-docker` runs each image's RUN steps as a plain script in an empty
environment and starts what the image would start.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from mollm_backend import settings
from mollm_backend.labelstudio.ssrf import banned_without
from mollm_backend.supervisor import label_studio
from mollm_backend.supervisor.ports import free_port

ROOT = Path(__file__).parents[2]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())


def instructions(name: str) -> list[tuple[str, str]]:
    """A Dockerfile as (instruction, arguments) pairs, continued lines joined, comments left out."""
    text = re.sub(r"^\s*#.*\n", "", (ROOT / "docker" / name).read_text(), flags=re.MULTILINE)
    lines = text.replace("\\\n", " ").splitlines()
    pairs = (line.split(maxsplit=1) for line in lines if line.strip())
    return [(word, rest) for word, rest in pairs]


def settings_of(service: str) -> dict[str, str]:
    return dict(COMPOSE["services"][service]["environment"])


def test_compose_says_the_same_as_mollm_up() -> None:
    services = COMPOSE["services"]
    assert set(services) == {"label-studio", "valkey", "web", "worker", "vllm", "prometheus", "grafana"}
    assert services["label-studio"]["image"].endswith(f":{label_studio.VERSION}")
    assert services["valkey"]["command"][1:3] == ["--appendonly", "yes"]
    assert "ports" not in services["valkey"], "the queue is for the parts only"
    assert settings_of("web") == settings_of("worker")
    assert settings_of("web")["MOLLM_BACKEND_URL"] == "http://web:9090"
    assert services["vllm"]["profiles"] == ["vllm"]
    assert services["prometheus"]["profiles"] == services["grafana"]["profiles"] == ["metrics"]
    for service in ("web", "worker"):
        assert services[service]["volumes"] == ["mollm:/data"], "store, secrets and models are shared"
        assert (ROOT / services[service]["build"]["dockerfile"]).is_file()


def test_label_studio_may_reach_the_compose_network_and_no_other_private_one() -> None:
    banned = settings_of("label-studio")["USER_ADDITIONAL_BANNED_SUBNETS"].replace(" ", "").split(",")
    own = ipaddress.ip_network(COMPOSE["networks"]["default"]["ipam"]["config"][0]["subnet"])
    networks = [ipaddress.ip_network(subnet) for subnet in banned]
    inside = [own.network_address, own.broadcast_address]
    assert not any(address in network for network in networks for address in inside)
    edges = [own.network_address - 1, own.broadcast_address + 1]
    for subnet in banned_without("8.8.8.8"):
        private = ipaddress.ip_network(subnet)
        edges += [private.network_address, private.broadcast_address]
    for address in edges:
        assert any(address in network for network in networks), f"{address} is open"


def test_the_web_image_has_no_torch_and_runs_what_mollm_up_runs() -> None:
    steps = instructions("web.Dockerfile")
    assert not any("torch" in rest for word, rest in steps if word == "RUN")
    command = json.loads(next(rest for word, rest in steps if word == "CMD"))
    assert "python:mollm_backend.supervisor.gunicorn_settings" in command
    assert all(word != "USER" or rest != "root" for word, rest in steps)


def test_compose_settings_that_are_not_given_are_the_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in settings_of("worker").items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:-(.*)\}", r"\1", value))
    monkeypatch.setenv("MOLLM_HOME", str(tmp_path))
    found, default = settings.load(), settings.Settings.model_fields
    for name in ("panel", "refit_every", "batch_size"):
        assert getattr(found, name) == default[name].default
    assert found.label_studio_unset() == ["LABEL_STUDIO_API_KEY"]


def test_the_images_user_has_a_name_and_a_home() -> None:
    for name in ("web.Dockerfile", "worker.Dockerfile"):
        steps = instructions(name)
        given = dict(part.split("=", 1) for word, rest in steps if word == "ENV" for part in rest.split())
        volumes = [rest for word, rest in steps if word == "VOLUME"]
        assert [given["HOME"]] == [given["MOLLM_HOME"]] == volumes
        assert given["LOGNAME"]


def test_what_the_images_copy_is_let_through_to_the_engine() -> None:
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name in ("web.Dockerfile", "worker.Dockerfile"):
        copied = {part for word, rest in instructions(name) if word == "COPY" for part in rest.split()[:-1]}
        assert all(let_through & {part, *map(str, Path(part).parents)} for part in copied)
        assert all((ROOT / part).exists() for part in copied)


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="no docker-compose to check the file with")
def test_the_compose_client_reads_the_file() -> None:
    command = ["docker-compose", "-f", str(ROOT / "docker" / "compose.yaml"), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def run_steps(name: str, tmp_path: Path) -> dict[str, str]:
    """Run an image's COPY and RUN steps in an empty directory and environment; returns the environment it ends with."""
    app = tmp_path / "app"
    app.mkdir()
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    kept = {key: value for key, value in os.environ.items() if key.startswith("PIP_") or key in ("HOME", "LANG")}
    environment = {**kept, "PATH": f"{tmp_path / 'venv' / 'bin'}:/usr/bin:/bin"}
    home = {"MOLLM_HOME": str(tmp_path / "data"), "HOME": os.environ["HOME"]}
    for word, rest in instructions(name):
        if word == "COPY":
            *sources, target = rest.split()
            for source in sources:
                here = ROOT / source
                copy = shutil.copytree if here.is_dir() else shutil.copy
                copy(here, app / target if here.is_dir() else app)
        elif word in ("ENV", "ARG"):
            environment |= dict(part.split("=", 1) for part in rest.split()) | home
            environment |= {key: os.environ[key] for key in ("TORCH_INDEX_URL",) if key in os.environ}
        elif word == "RUN":
            subprocess.run(["/bin/sh", "-c", rest], cwd=app, env=environment, check=True)
    return environment


def command_of(name: str) -> list[str]:
    found: list[str] = json.loads(next(rest for word, rest in instructions(name) if word == "CMD"))
    return found


@pytest.mark.docker
def test_the_web_images_steps_give_a_backend_that_answers(tmp_path: Path) -> None:
    environment = run_steps("web.Dockerfile", tmp_path)
    port = free_port("127.0.0.1", 26_000)
    command = [part.replace("0.0.0.0:9090", f"127.0.0.1:{port}") for part in command_of("web.Dockerfile")]
    has_torch = subprocess.run(["python", "-c", "import torch"], env=environment, capture_output=True, check=False)
    assert has_torch.returncode
    with subprocess.Popen(command, env=environment, cwd=tmp_path) as web:
        try:
            for _ in range(100):
                try:
                    assert httpx.get(f"http://127.0.0.1:{port}/health", timeout=1).json()["status"] == "UP"
                    break
                except httpx.TransportError:
                    time.sleep(0.3)
            else:
                pytest.fail("no answer in 30 s")
            maps = Path(f"/proc/{web.pid}/maps").read_text()
            assert "torch" not in maps
        finally:
            web.terminate()


@pytest.mark.docker
def test_the_worker_images_steps_give_a_worker_that_loads(tmp_path: Path) -> None:
    environment = run_steps("worker.Dockerfile", tmp_path)
    asked = "import torch, transformers, mollm_backend.jobs.worker"
    subprocess.run(["python", "-c", asked], env=environment, cwd=tmp_path, check=True)
    subprocess.run(["mollm", "prepare", "--help"], env=environment, cwd=tmp_path, check=True, capture_output=True)
