"""The demo's project against a server that answers as Label Studio does."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest
import respx

from mollm_backend.demo.project import DemoProject
from mollm_backend.demo.score import read_gold
from mollm_backend.demo.texts import Texts
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.errors import LabelStudioDown, LabelStudioError, LabelStudioRefused

URL = "http://127.0.0.1:8080"
TEXTS = Texts(("one", "two"), ("a", "b"), {"one": "a", "two": "b"}, "file.csv")


@pytest.fixture
def demo(tmp_path: Path) -> DemoProject:
    return DemoProject(tmp_path, LabelStudioClient(URL, "token"), TEXTS)


def remote(number: int, tasks: int = 0) -> dict[str, object]:
    return {"id": number, "created_at": "2026-01-01", "task_number": tasks}


@respx.mock(base_url=URL)
def test_made_once_then_found_by_its_note(respx_mock: respx.MockRouter, demo: DemoProject, tmp_path: Path) -> None:
    respx_mock.get("/api/projects/", params={"page_size": 1000}).respond(json={"results": []})
    made = respx_mock.post("/api/projects/").respond(json={"id": 7})
    respx_mock.get("/api/projects/7/").respond(json=remote(7))
    imported = respx_mock.post("/api/projects/7/import").respond(json={"task_ids": [1, 2]})
    assert demo.ensure() == 7
    assert json.loads(imported.calls[0].request.content) == [{"text": "one"}, {"text": "two"}], "no gold in the tasks"
    assert "one" not in made.calls[0].request.content.decode()
    respx_mock.get("/api/projects/7/").respond(json=remote(7, tasks=2))
    assert demo.ensure() == 7
    assert (made.call_count, imported.call_count) == (1, 1)
    assert read_gold(tmp_path) == TEXTS.gold
    DemoProject(tmp_path, demo.client, Texts(("c",), ("a", "b"), {"c": "a"}, "other.csv"))._keep_gold()
    assert read_gold(tmp_path) == TEXTS.gold | {"c": "a"}


@respx.mock(base_url=URL)
def test_a_project_that_was_deleted_is_made_anew(
    respx_mock: respx.MockRouter, demo: DemoProject, tmp_path: Path
) -> None:
    note = tmp_path / "demo" / f"project-{TEXTS.key}.json"
    note.parent.mkdir()
    note.write_text('{"project": 6}', encoding="utf-8")
    respx_mock.get("/api/projects/6/").respond(404)
    respx_mock.get("/api/projects/", params={"page_size": 1000}).respond(json={"results": []})
    respx_mock.post("/api/projects/").respond(json={"id": 7})
    respx_mock.get("/api/projects/7/").respond(json=remote(7, tasks=2))
    assert demo.ensure() == 7
    assert json.loads(note.read_text(encoding="utf-8")) == {"project": 7}


@respx.mock(base_url=URL)
def test_a_project_whose_number_was_never_noted_is_found_and_filled(
    respx_mock: respx.MockRouter, demo: DemoProject
) -> None:
    found = {"id": 9, "description": demo._marker()}
    respx_mock.get("/api/projects/", params={"page_size": 1000}).respond(json={"results": [{"id": 1}, found]})
    respx_mock.get("/api/projects/9/").respond(json=remote(9))
    imported = respx_mock.post("/api/projects/9/import").respond(json={"task_ids": [1, 2]})
    assert demo.ensure() == 9
    assert imported.called


@respx.mock(base_url=URL)
def test_refusals_are_told(respx_mock: respx.MockRouter, demo: DemoProject) -> None:
    respx_mock.get("/api/projects/").respond(401, text="no such token")
    with pytest.raises(LabelStudioRefused, match="no such token"):
        demo.ensure()
    respx_mock.get("/api/projects/").mock(side_effect=httpx.ConnectError("gone"))
    with pytest.raises(LabelStudioDown, match="cannot be reached"):
        demo.ensure()
    respx_mock.get("/api/projects/").respond(json={"results": []})
    respx_mock.post("/api/projects/").respond(json={"id": 7})
    respx_mock.get("/api/projects/7/").respond(json=remote(7))
    respx_mock.post("/api/projects/7/import").respond(json={"task_ids": [1]})
    with pytest.raises(LabelStudioError, match="took 1 of 2"):
        demo.ensure()
