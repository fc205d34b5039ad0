"""Suspect labels are shown to people again in a tab, until somebody has looked; no annotation is ever changed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mollm_backend.labelstudio import recheck
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.errors import LabelStudioNotFound
from mollm_backend.labelstudio.recheck import find_tab

pytestmark = pytest.mark.label_studio


def choice(label: str) -> list[dict[str, Any]]:
    return [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}]


def shown(client: LabelStudioClient, project: int) -> list[int]:
    """The tasks in the tab, as the page asks for them."""
    tab = find_tab(client, project, recheck.TAB)
    assert tab is not None
    page = client._raw("tab", "GET", "api/tasks/", params={"view": tab["id"], "project": project})
    return [int(row["id"]) for row in page["tasks"]]


def test_labelled_tasks_are_shown_until_somebody_decides(
    client: LabelStudioClient, make_project: Callable[..., tuple[int, list[int]]]
) -> None:
    project, ids = make_project(5)
    given = {task: client.submit(task, choice("Red")) for task in ids[:4]}
    before = {task: client._raw("a", "GET", f"api/annotations/{number}/") for task, number in given.items()}
    recheck.show(client, project, {task: given[task] for task in ids[:3]})
    assert shown(client, project) == ids[:3]
    assert before == {task: client._raw("a", "GET", f"api/annotations/{number}/") for task, number in given.items()}

    tab = find_tab(client, project, recheck.TAB)
    assert tab is not None
    with pytest.raises(LabelStudioNotFound):  # why the tab is clicked and not streamed
        client._raw("stream", "POST", "api/dm/actions/", params={"id": "next_task", "project": project},
                    body={"filters": tab["data"]["filters"]})  # fmt: skip
    rows = [{"task": ids[1], "model_version": "v", "score": 0.5, "result": choice("g")}]
    client.import_predictions(project, rows)
    assert shown(client, project) == ids[:3]  # publishing hides nothing

    client._raw("edit", "PATCH", f"api/annotations/{given[ids[0]]}/", body={"result": choice("Blue")})
    assert shown(client, project) == ids[1:3]
    client._raw("confirm", "PATCH", f"api/annotations/{given[ids[1]]}/", body={"result": choice("Red")})
    assert shown(client, project) == ids[2:3]
    client.submit(ids[2], choice("Blue"))
    assert shown(client, project) == []

    recheck.show(client, project, {ids[3]: given[ids[3]]})
    assert shown(client, project) == [ids[3]]
    titles = [(view.get("data") or {}).get("title") for view in client.views(project)]
    assert titles == ["Default", recheck.TAB]  # the page's own first tab is still the first
    assert recheck.remove(client, project)
    assert not recheck.remove(client, project)
    assert client.annotation_ids(ids[2]) >= {given[ids[2]]}
