"""The Kubernetes manifest as it is written; tests/docker/test_checked.py gives it to Kubernetes' own schemas."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from mollm_backend.settings import Settings

ROOT = Path(__file__).parents[2]
OBJECTS: list[dict[str, Any]] = yaml.safe_load((ROOT / "docker" / "kubernetes.yaml").read_text())["items"]
PODS = {
    one["metadata"]["name"]: one["spec"]["template"]["spec"] for one in OBJECTS if "template" in one.get("spec", {})
}


def test_it_has_the_parts_and_nothing_else() -> None:
    assert [one["kind"] for one in OBJECTS] == [
        "ConfigMap", "PersistentVolumeClaim", "Job", "Deployment", "Service", "Deployment",
    ]  # fmt: skip
    assert set(PODS) == {"mollm-migrate", "mollm-web", "mollm-worker"}


@pytest.mark.parametrize("name", sorted(PODS))
def test_a_pod_has_no_privileges_and_writes_nowhere_but_in_its_volumes(name: str) -> None:
    pod = PODS[name]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == 1000
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "a service named mollm would set MOLLM_PORT"
    mounted = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert mounted == {"home": "/data", "tmp": "/tmp", "secrets": str(Settings.model_fields["secrets_dir"].default)}
    assert {one["name"] for one in pod["volumes"]} == mounted.keys()


def test_the_images_are_of_this_release() -> None:
    release = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    images = {container["image"] for pod in PODS.values() for container in pod["containers"]}
    assert images == {f"mollm-web:{release}", f"mollm-worker:{release}"}


def test_the_web_part_is_asked_whether_it_lives_and_whether_it_is_ready() -> None:
    (container,) = PODS["mollm-web"]["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == container["startupProbe"]["httpGet"]["path"] == "/health"
    assert container["readinessProbe"]["httpGet"]["path"] == "/ready"
    (service,) = (one for one in OBJECTS if one["kind"] == "Service")
    labels = next(one for one in OBJECTS if one["metadata"]["name"] == "mollm-web")["spec"]["template"]["metadata"]
    assert service["spec"]["selector"] == labels["labels"]


def test_its_settings_are_settings_and_its_secrets_are_files() -> None:
    (config,) = (one["data"] for one in OBJECTS if one["kind"] == "ConfigMap")
    named = {
        field.validation_alias if isinstance(field.validation_alias, str) else f"MOLLM_{name.upper()}"
        for name, field in Settings.model_fields.items()
    }
    assert config.keys() <= named
    assert all("env" not in container for pod in PODS.values() for container in pod["containers"])
