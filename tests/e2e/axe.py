"""axe-core, which finds what keeps people from using a page: fetched once from the npm registry, and checked."""

from __future__ import annotations

import base64
import hashlib
import io
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Any

import httpx

from tests.conftest import absent, heavy_home

VERSION = "4.14.1"
SHA512 = "FHfa+lmNjQZfJz1q8wKqIDwC6DExcHt/pkjNQb09a3NPjCKg2rhu5qb2S4r76ASyFNNtuFooJpZe37OgudVGtQ=="
ADDRESS = f"https://registry.npmjs.org/axe-core/-/axe-core-{VERSION}.tgz"
GRAVE = ("serious", "critical")


def script() -> str:
    """The text of axe.min.js. Where it cannot be fetched, see `absent`; one that is not the pinned one is an error."""
    kept = heavy_home() / "cache" / f"axe-core-{VERSION}.tgz"
    packed = kept.read_bytes() if kept.exists() else _fetched()
    found = base64.b64encode(hashlib.sha512(packed).digest()).decode()
    assert found == SHA512, f"{kept} or {ADDRESS} is not axe-core {VERSION}: delete the file, or ask who changed it"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(packed)
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        member = archive.extractfile("package/axe.min.js")
        assert member is not None
        return member.read().decode()


def _fetched() -> bytes:
    """By npm where it is installed, which knows a mirror that is set up; else from the registry itself."""
    if shutil.which("npm"):
        with tempfile.TemporaryDirectory() as directory:
            command = ["npm", "pack", f"axe-core@{VERSION}", "--silent", "--ignore-scripts"]
            done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120)
            if done.returncode == 0:
                return next(Path(directory).glob("*.tgz")).read_bytes()
    try:
        return httpx.get(ADDRESS, timeout=60, follow_redirects=True).raise_for_status().content
    except httpx.HTTPError as error:
        absent(f"no axe-core: {ADDRESS} does not answer ({type(error).__name__})")


def violations(driver: Any, source: str) -> list[str]:
    """A line for each serious or critical violation of the page that is open: the rule, where, and why."""
    driver.execute_script(source)
    found = driver.execute_async_script(
        "const done = arguments[arguments.length - 1];"
        "axe.run(document, {resultTypes: ['violations']}).then(found => done(found.violations), e => done(String(e)));"
    )
    assert isinstance(found, list), found
    return [
        f"{row['id']} ({row['impact']}): {node['html'][:160]} {node['failureSummary'][:240]}"
        for row in found
        if row["impact"] in GRAVE
        for node in row["nodes"][:3]
    ]
