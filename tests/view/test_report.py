"""`mollm report PROJECT --html FILE`: one file that needs nothing else."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from mollm_backend.cli import app
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.store import projects
from mollm_backend.view import render
from tests.view.reading import Page


@pytest.fixture
def run(taught: Runtime, monkeypatch: pytest.MonkeyPatch) -> Any:
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MOLLM_HOME", str(taught.settings.home))
    monkeypatch.setenv("REDIS_URL", taught.settings.redis_url)

    def said(*words: str) -> Result:
        return CliRunner().invoke(app, ["report", *words])

    return said


def test_the_file_loads_nothing_and_links_to_label_studio_alone(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "pets.html"
    assert run("7", "--html", str(file)).exit_code == 0
    html = file.read_text(encoding="utf-8")
    page = Page(html)
    assert not [tag for tag, _ in page.tags if tag in ("script", "link", "img", "iframe", "form", "button", "base")]
    assert not page.values("src")
    outside = [link for link in page.values("href") if not link.startswith("#")]
    assert outside
    assert all(link.startswith("http://ls/projects/7/data") for link in outside)
    ids = set(page.values("id"))
    assert {link[1:] for link in page.values("href") if link.startswith("#")} <= ids
    assert "url(" not in html
    assert "@import" not in html
    assert not re.search(r"https?://(?!ls/|www\.w3\.org/2000/svg)", html)
    assert ".card {" in html, "its styles are in it"


def test_it_says_the_same_as_the_page(run: Any, tmp_path: Path, shown: dict[str, Any]) -> None:
    file = tmp_path / "pets.html"
    run("7", "--html", str(file))
    mailed, served = Page(file.read_text(encoding="utf-8")), Page(render.project_page(shown, actions=None))
    for section in ("accuracy", "classes", "people", "versions", "cost"):
        assert mailed.within[section].split() == served.within[section].split()


def test_a_file_that_cannot_be_written_and_two_ways_at_once_are_refused(run: Any, tmp_path: Path) -> None:
    missing = run("7", "--html", str(tmp_path / "nowhere" / "pets.html"))
    assert missing.exit_code == 1
    assert "cannot be written" in str(missing.exception) + missing.output
    for words in (("--html", str(tmp_path / "a.html")), ("7", "--json", "--html", str(tmp_path / "a.html"))):
        refused = run(*words)
        assert refused.exit_code == 1
        assert "mollm report PROJECT --html FILE" in str(refused.exception) + refused.output
    assert not list(tmp_path.iterdir())


def test_json_says_no_version_yet_only_where_there_is_none(run: Any, taught: Runtime) -> None:
    (found,) = json.loads(run("7", "--json").stdout)["projects"]
    assert found["version"]["id"] == projects.get(taught.store, 7).published_version
    assert found["no_version"] == ""
    assert (found["tasks"], found["open"], found["batch"]["reserve"]) == (120, 80, 30)
    assert "nothing waits" not in json.dumps(found)


def test_the_lines_say_what_waits(run: Any) -> None:
    said = run("7").output
    assert "120 tasks (80 open), 50 human labels (50 learned)" in said
    assert "50 tasks wait for people (30 more in reserve)" in said
