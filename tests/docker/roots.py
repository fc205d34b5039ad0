"""Start what is in a built image as an engine would, without one: from its root file system, read-only, as its user.

Needs root, buildah and unshare. The process has its own mounts and processes, and this machine's network.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TAG = os.environ.get("TAG") or tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
# $1: the root; $2: its user; $3, $4, ...: source and target of each volume; then --, then the command.
SCRIPT = """
set -e
root=$1; user=$2; shift 2
mount --bind "$root" "$root"
mount -t tmpfs -o mode=1777 tmpfs "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"
while [ "$1" != -- ]; do mkdir -p "$root$2"; mount --bind "$1" "$root$2"; shift 2; done
shift
mount -o remount,bind,ro "$root"
exec chroot --userspec="$user" --groups= "$root" "$@"
"""


@dataclass(frozen=True)
class Image:
    """A built image: its root file system, mounted here, and what it says of itself."""

    root: Path
    config: Mapping[str, Any]

    def command(
        self, words: list[str], settings: Mapping[str, str], volumes: Mapping[str | Path, str | Path]
    ) -> list[str]:
        """The words that run `words` in it. `volumes`: a path of this machine to its place in the image."""
        mounts = [str(path) for pair in volumes.items() for path in pair]
        variables = [*self.config["Env"], *(f"{name}={value}" for name, value in settings.items())]
        apart = ["unshare", "--mount", "--pid", "--uts", "--ipc", "--fork", "--kill-child"]
        inside = [str(self.root), self.config["User"], *mounts, "--", "/usr/bin/env", "-i", *variables, *words]
        return [*apart, "sh", "-c", SCRIPT, "sh", *inside]

    def size(self) -> int:
        """Bytes of all files in it."""
        said = subprocess.run(["du", "-sb", "--one-file-system", self.root], check=True, capture_output=True, text=True)
        return int(said.stdout.split()[0])


@contextmanager
def built(name: str) -> Iterator[Image]:
    """The image `mollm-<name>` of this release (or TAG), as buildah keeps it. Raises LookupError: it was not built."""
    image = f"localhost/mollm-{name}:{TAG}"
    found = subprocess.run(
        ["buildah", "inspect", "--type", "image", image], capture_output=True, text=True, check=False
    )
    if found.returncode:
        raise LookupError(f"there is no image {image}: make images ENGINE=buildah")
    made = _buildah("from", "--pull-never", image)
    try:
        yield Image(Path(_buildah("mount", made)), json.loads(found.stdout)["Docker"]["config"])
    finally:
        _buildah("rm", made)


@contextmanager
def running(command: list[str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that is asked to end by SIGTERM, as an engine does, and killed where it does not within 20 s."""
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        yield process
    finally:
        stop(process)


def stop(process: subprocess.Popen[bytes], seconds: float = 20.0) -> int:
    """End it; returns its exit status, -9 where it had to be killed."""
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
    return process.wait()


def _buildah(*words: str) -> str:
    return subprocess.run(["buildah", *words], check=True, capture_output=True, text=True).stdout.strip()
