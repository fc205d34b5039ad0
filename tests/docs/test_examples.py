"""The examples of CONTRIBUTING.md: each is written as the file that it shows, and the contract tests run over it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.docs.pages import ROOT, Block, blocks

CONTRACTS = {
    "mollm.strategies": "tests/strategies/test_contract.py",
    "mollm.mixture": "tests/mixture/test_contract.py",
    "mollm.annotators": "tests/annotators/test_contract.py",
    "mollm_backend.labelstudio.controls": "tests/labelstudio/test_ls_controls.py",
}
GROUPS = {
    "mollm.strategies": ("mollm.strategies", "strategies"),
    "mollm.aggregators": ("mollm.mixture", "aggregators"),
    "mollm.runtimes": ("mollm.annotators", "runtimes"),
}
EXAMPLES = [block for block in blocks(ROOT / "CONTRIBUTING.md") if block.file]


def room_of(block: Block) -> str:
    folder = Path(block.file).parent.as_posix()
    return folder.removeprefix("backend/").replace("/", ".")


def stem(block: Block) -> str:
    return Path(block.file).stem


def run(words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    given = {**os.environ, **environment}
    return subprocess.run([sys.executable, *words], cwd=ROOT, env=given, capture_output=True, text=True)


def test_there_is_an_example_for_each_open_folder() -> None:
    assert sorted(map(room_of, EXAMPLES)) == sorted(CONTRACTS)
    assert not [block.file for block in EXAMPLES if (ROOT / block.file).exists()], "choose another example"


@pytest.mark.slow
@pytest.mark.parametrize("block", EXAMPLES, ids=stem)
def test_the_contract_holds_for_the_example(block: Block, tmp_path: Path) -> None:
    (tmp_path / f"{stem(block)}.py").write_text(block.code, encoding="utf-8")
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "tests.docs.beside"]
    words += [CONTRACTS[room_of(block)], "-k", stem(block)]
    done = run(words, MOLLM_EXAMPLE=f"{room_of(block)}:{tmp_path}")
    passed = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert passed
    assert int(passed[1]) >= 4, done.stdout


def test_an_installed_package_brings_its_own(tmp_path: Path) -> None:
    """The examples as modules of another package, which its entry points name as the page shows."""
    (shown,) = (block for block in blocks(ROOT / "CONTRIBUTING.md") if "entry-points" in block.code)
    project = tomllib.loads(shown.code)["project"]
    groups: dict[str, dict[str, str]] = project["entry-points"]
    assert set(groups) == set(GROUPS)
    modules = {target: name for points in groups.values() for name, target in points.items()}
    examples = {stem(block): block for block in EXAMPLES if stem(block) in modules.values()}
    facts = tmp_path / "my_package-0.1.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: 0.1\n", encoding="utf-8")
    points = [f"[{group}]\n{name} = {target}" for group, one in groups.items() for name, target in one.items()]
    (facts / "entry_points.txt").write_text("\n".join(points), encoding="utf-8")
    for target, name in modules.items():
        file = tmp_path / f"{target.replace('.', '/')}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(examples[name].code, encoding="utf-8")
    for group, (room, find) in GROUPS.items():
        (name,) = groups[group]
        program = f"from {room} import {find}; assert {name!r} in {find}(), sorted({find}())"
        path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = run(["-c", program], PYTHONPATH=path)
        assert done.returncode == 0, done.stderr
