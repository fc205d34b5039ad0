"""The images and the compose file as they are written; tests/docker/test_built.py starts what was built from them."""

from __future__ import annotations

import ipaddress
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from mollm_backend import settings
from mollm_backend.labelstudio.ssrf import banned_without
from mollm_backend.supervisor import label_studio

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


def test_the_images_run_the_commands_of_mollm_without_privileges_and_torch_is_in_one() -> None:
    web, worker = instructions("web.Dockerfile"), instructions("worker.Dockerfile")
    assert not any("torch" in rest.lower() for word, rest in web if word == "RUN")
    assert json.loads(dict(web)["CMD"]) == ["mollm", "web"]
    assert json.loads(dict(worker)["CMD"])[-1].endswith("exec mollm worker")
    for steps in (web, worker):
        assert [rest for word, rest in steps if word == "USER"] == ["1000:1000"]
    assert "/health" in dict(web)["HEALTHCHECK"]


def test_both_images_have_the_same_pinned_base_and_it_is_an_argument() -> None:
    bases = []
    for name in ("web.Dockerfile", "worker.Dockerfile"):
        steps = instructions(name)
        assert [rest.split()[0] for word, rest in steps if word == "FROM"] == ["${BASE}", "${BASE}"]
        assert steps[0][0] == "ARG"
        bases.append(steps[0][1])
    assert bases[0] == bases[1]
    assert re.fullmatch(r"BASE=python:3\.1[123]\.\d+-slim-[a-z]+", bases[0]), "pinned to a release"


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
        last = steps[
            max(n for n, (word, _rest) in enumerate(steps) if word == "FROM") :
        ]  # the image; not what built it
        given = dict(part.split("=", 1) for word, rest in last if word == "ENV" for part in rest.split())
        volumes = [rest for word, rest in steps if word == "VOLUME"]
        assert [given["HOME"]] == [given["MOLLM_HOME"]] == volumes
        assert given["LOGNAME"]


def test_what_the_images_copy_is_let_through_to_the_engine() -> None:
    let_through = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for name in ("web.Dockerfile", "worker.Dockerfile"):
        steps = [rest.split() for word, rest in instructions(name) if word == "COPY" and "--from" not in rest]
        copied = {part for words in steps for part in words[:-1]}
        assert all(let_through & {part, *map(str, Path(part).parents)} for part in copied)
        assert all((ROOT / part).exists() for part in copied)


@pytest.mark.skipif(not shutil.which("docker-compose"), reason="no docker-compose to check the file with")
def test_the_compose_client_reads_the_file() -> None:
    command = ["docker-compose", "-f", str(ROOT / "docker" / "compose.yaml"), "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
