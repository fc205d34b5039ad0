"""The pages as a whole: made pages are up to date, links lead somewhere, the README stays short and agrees."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from tests.conftest import absent
from tests.docs import command_line
from tests.docs.pages import PAGES, ROOT, blocks, prose

QUIET = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # a notice of the theme about its successor
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_command_line_page_is_up_to_date() -> None:
    written = (ROOT / "docs" / "command-line.md").read_text(encoding="utf-8")
    assert written == command_line.page(), "run: make docs"


def test_the_readme_is_short() -> None:
    assert len(README.splitlines()) < 200


def test_the_readme_s_figures_stand_among_the_measurements() -> None:
    """A figure that was measured again is replaced in both places."""
    table = README.partition("## What we measured")[2].partition("\n## ")[0]
    measured = (ROOT / "docs" / "measurements.md").read_text(encoding="utf-8").replace("**", "")
    figures = [row.split("|")[2] for row in table.splitlines() if row.startswith("| ") and "---" not in row][1:]
    assert len(figures) >= 6
    for figure in figures:
        for number in re.findall(r"(?<![\w.])\.\d{2,}|\d+(?:\.\d+)? ms", figure):
            assert number in measured, f"{number} of the README is not in docs/measurements.md"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        other = page.parent / path if path else page
        assert other.is_file(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", other.read_text(encoding="utf-8"), re.MULTILINE)
            assert anchor in {slug(heading) for heading in headings}, f"{page.name}: {target}"


def slug(heading: str) -> str:
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_pre_commit_needs_no_network() -> None:
    read = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    assert [repo["repo"] for repo in read["repos"]] == ["local"]
    hooks = read["repos"][0]["hooks"]
    assert {hook["id"] for hook in hooks} == {"ruff-format", "ruff-check", "mypy", "lint-imports"}
    assert all(hook["language"] == "system" and hook["entry"].startswith(".venv/bin/") for hook in hooks)


def test_the_ci_workflow_calls_the_project_s_own_script() -> None:
    read = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    (job,) = read["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == ["bash .ci/run"]


def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    if find_spec("mkdocs") is None or find_spec("material") is None or find_spec("mkdocstrings") is None:
        absent("mkdocs-material and mkdocstrings build the pages: run `make install`")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=QUIET)
    assert done.returncode == 0, done.stderr
    assert "expected_votes" in (tmp_path / "site" / "library.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/method.md"])
def test_the_directories_that_a_page_lists_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    listed = re.findall(r"(?<![\w/.-])(?:backend/)?mollm(?:_backend)?/[a-z_/]*\w(?:\.py)?(?![\w{.-])", text)
    examples = {block.file for block in blocks(ROOT / page)}
    assert len(listed) > 5
    assert [path for path in listed if not (ROOT / path).exists() and path not in examples] == []
