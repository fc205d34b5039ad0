"""The client against answers that a real server rarely gives: broken off, half a page, refused rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import respx

from mollm.errors import ConfigError
from mollm_backend.labelstudio.client import PROMPT, LabelStudioClient
from mollm_backend.labelstudio.errors import (
    LabelStudioDown,
    LabelStudioError,
    LabelStudioNotFound,
    LabelStudioRefused,
    PrivateAddress,
)

URL = "http://studio.test"
IMPORT = f"{URL}/api/projects/3/import/predictions"


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> Iterator[LabelStudioClient]:
    monkeypatch.setattr("time.sleep", lambda _seconds: None)
    client = LabelStudioClient(f"{URL}/", "secret-token")
    yield client
    client.close()


def rows(n: int) -> list[dict[str, Any]]:
    return [{"task": task, "model_version": "v", "score": 0.5, "result": []} for task in range(1, n + 1)]


@pytest.mark.parametrize(("url", "key"), [("", "k"), ("localhost:8080", "k"), (URL, "")])
def test_settings_that_cannot_be_used(url: str, key: str) -> None:
    with pytest.raises(ConfigError):
        LabelStudioClient(url, key)


@respx.mock
def test_a_read_is_tried_again_and_a_write_is_not(client: LabelStudioClient) -> None:
    read = respx.get(f"{URL}/api/version/").mock(side_effect=[httpx.ReadError("cut"), httpx.Response(200, json={})])
    assert client.version() == "?"
    assert read.call_count == 2
    write = respx.post(IMPORT).mock(side_effect=httpx.ReadTimeout("slow"))
    with pytest.raises(LabelStudioDown, match="did not answer"):
        client.import_predictions(3, rows(2))
    assert write.call_count == 1


@respx.mock
def test_a_server_that_never_answers_is_waited_for_once(client: LabelStudioClient) -> None:
    hangs = respx.get(f"{URL}/api/version/").mock(side_effect=httpx.ReadTimeout("slow"))
    with pytest.raises(LabelStudioDown, match="took the call and did not answer"):
        client.version()
    assert hangs.call_count == 1
    assert hangs.calls[0].request.extensions["timeout"]["read"] == PROMPT


@respx.mock
def test_a_refused_connection_may_be_tried_again_even_for_a_write(client: LabelStudioClient) -> None:
    answers = [httpx.ConnectError("no"), httpx.Response(201, json={"created": 1})]
    respx.post(IMPORT).mock(side_effect=answers)
    assert client.import_predictions(3, rows(1)).created == 1


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (401, {"detail": "Invalid token."}, LabelStudioRefused),
        (403, {"detail": "URL resolves to a reserved network address (block: 10.0.0.0/8)"}, PrivateAddress),
        (404, {"detail": "Not found."}, LabelStudioNotFound),
        (400, {"validation_errors": {"title": ["short"]}}, LabelStudioError),
        (502, "<html>bad gateway</html>", LabelStudioDown),
    ],
)
@respx.mock
def test_each_refusal_has_its_error(client: LabelStudioClient, status: int, body: object, error: type) -> None:
    content = body if isinstance(body, str) else json.dumps(body)
    respx.get(f"{URL}/api/projects/3/").mock(return_value=httpx.Response(status, text=content))
    with pytest.raises(error) as raised:
        client.project(3)
    assert type(raised.value) is error
    assert "secret-token" not in str(raised.value)
    assert "<html>" not in str(raised.value)


@respx.mock
def test_something_that_is_not_a_label_studio(client: LabelStudioClient) -> None:
    respx.get(f"{URL}/api/projects/3/").mock(return_value=httpx.Response(200, text="<html>hello</html>"))
    with pytest.raises(LabelStudioError, match="is this a Label Studio"):
        client.project(3)


@respx.mock
def test_a_foreign_task_in_an_import_is_found_by_halving(client: LabelStudioClient) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        sent = json.loads(request.content)
        if any(row["task"] in (3, 8) for row in sent):
            return httpx.Response(400, json={"detail": "task ID not found in project"})
        return httpx.Response(201, json={"created": len(sent)})

    respx.post(IMPORT).mock(side_effect=answer)
    imported = client.import_predictions(3, rows(10))
    assert imported.created == 8
    assert [task for task, _ in imported.refused] == [3, 8]


@respx.mock
def test_rows_dropped_in_silence_are_named(client: LabelStudioClient) -> None:
    respx.post(IMPORT).mock(return_value=httpx.Response(201, json={"created": 3}))
    held = [{"id": n, "predictions_model_versions": "u,v"} for n in (1, 2, 4)]
    held.append({"id": 3, "predictions_model_versions": "v2"})  # contains the version's name, but is another
    respx.get(f"{URL}/api/tasks/").mock(return_value=httpx.Response(200, json={"tasks": held, "total": 4}))
    imported = client.import_predictions(3, rows(4))
    assert (imported.created, [task for task, _ in imported.refused]) == (3, [3])


@respx.mock
def test_pages_go_on_after_the_last_id_until_the_total_is_there(client: LabelStudioClient) -> None:
    everything = [{"id": n, "data": {"text": "x"}, "updated_at": "t"} for n in (2, 3, 5, 7, 11)]

    def answer(request: httpx.Request) -> httpx.Response:
        query = json.loads(request.url.params["query"])
        after = query["filters"]["items"][0]["value"]
        left = [row for row in everything if row["id"] > after]
        return httpx.Response(200, json={"tasks": left[:2], "total": len(left)})

    respx.get(f"{URL}/api/tasks/").mock(side_effect=answer)
    assert [task.id for task in client.tasks(3)] == [2, 3, 5, 7, 11]


@respx.mock
def test_half_a_page_is_an_error_and_never_a_short_list(client: LabelStudioClient) -> None:
    respx.get(f"{URL}/api/tasks/").mock(return_value=httpx.Response(200, json={"tasks": [], "total": 9}))
    with pytest.raises(LabelStudioError, match="half a page"):
        list(client.tasks(3))
    respx.get(f"{URL}/api/tasks/").mock(return_value=httpx.Response(200, text='{"tasks": [{"id": 1'))
    with pytest.raises(LabelStudioError):
        list(client.tasks(3))
