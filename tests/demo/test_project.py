"""The demo's project against a server that answers as Label Studio does."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
import respx

from mollm_backend.demo.project import DemoError, DemoProject
from mollm_backend.demo.score import read_gold
from mollm_backend.demo.texts import Texts

URL = "http://127.0.0.1:8080"
TEXTS = Texts(("one", "two"), ("a", "b"), {"one": "a", "two": "b"}, "file.csv")


@pytest.fixture
def demo(tmp_path: Path) -> DemoProject:
    return DemoProject(tmp_path, URL, "token", TEXTS)


@respx.mock(base_url=URL)
def test_made_once_then_found_by_its_note(respx_mock: respx.MockRouter, demo: DemoProject, tmp_path: Path) -> None:
    respx_mock.get("/api/projects", params={"page_size": 1000}).respond(json={"results": []})
    made = respx_mock.post("/api/projects").respond(json={"id": 7})
    imported = respx_mock.post("/api/projects/7/import").respond(json={"task_count": 2})
    assert demo.ensure() == 7
    assert json.loads(imported.calls[0].request.content) == [{"text": "one"}, {"text": "two"}], "no gold in the tasks"
    assert "one" not in made.calls[0].request.content.decode()
    respx_mock.get("/api/projects/7").respond(json={"id": 7, "task_number": 2})
    assert demo.ensure() == 7
    assert (made.call_count, imported.call_count) == (1, 1)
    assert read_gold(tmp_path) == TEXTS.gold
    DemoProject(tmp_path, URL, "token", Texts(("c",), ("a", "b"), {"c": "a"}, "other.csv"))._keep_gold()
    assert read_gold(tmp_path) == TEXTS.gold | {"c": "a"}


@respx.mock(base_url=URL)
def test_a_project_whose_number_was_never_noted_is_found_and_filled(
    respx_mock: respx.MockRouter, demo: DemoProject
) -> None:
    found = {"id": 9, "description": demo._marker(), "task_number": 0}
    respx_mock.get("/api/projects", params={"page_size": 1000}).respond(json={"results": [{"id": 1}, found]})
    imported = respx_mock.post("/api/projects/9/import").respond(json={"task_count": 2})
    assert demo.ensure() == 9
    assert imported.called


@respx.mock(base_url=URL)
def test_refusals_are_told(respx_mock: respx.MockRouter, demo: DemoProject) -> None:
    respx_mock.get("/api/projects").respond(401, text="no such token")
    with pytest.raises(DemoError, match="no such token"):
        demo.ensure()
    respx_mock.get("/api/projects").mock(side_effect=httpx.ConnectError("gone"))
    with pytest.raises(DemoError, match="did not answer"):
        demo.ensure()
    respx_mock.get("/api/projects").respond(json={"results": []})
    respx_mock.post("/api/projects").respond(json={"id": 7})
    respx_mock.post("/api/projects/7/import").respond(json={"task_count": 1})
    with pytest.raises(DemoError, match="took 1 of 2"):
        demo.ensure()
