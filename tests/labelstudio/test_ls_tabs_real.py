"""Our tabs on a real Label Studio: what they show, people's own tab, `disconnect`, and the field that says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mollm_backend.labelstudio import label_config, publish, show_why, tab_shapes, tabs
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.connect import connect, disconnect
from mollm_backend.settings import Settings
from mollm_backend.store import Store, batches, projects, tasks, versions
from mollm_backend.store.batches import StoredEntry
from mollm_backend.store.certificates import MARK
from mollm_backend.store.versions import StoredPrediction, Version

from .conftest import CONFIG, Recorder

pytestmark = pytest.mark.label_studio
THEIRS = {"title": "ours alone", "type": "list", "target": "tasks",
          "filters": {"conjunction": "and", "items": []}, "ordering": ["-tasks:id"]}  # fmt: skip


def choice(label: str) -> list[dict[str, Any]]:
    return [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}]


def listed(client: LabelStudioClient, project: int, title: str) -> list[dict[str, Any]]:
    """The rows of a tab, as the page asks for them."""
    (number,) = (view["id"] for view in client.views(project) if view["data"].get("title") == title)
    page = client._raw("tab", "GET", "api/tasks/", params={"view": number, "project": project, "page_size": 50})
    return list(page["tasks"])


def shown(client: LabelStudioClient, project: int, title: str) -> list[int]:
    return [int(row["id"]) for row in listed(client, project, title)]


def titles(client: LabelStudioClient, project: int) -> list[str]:
    return [str(view["data"].get("title")) for view in client.views(project)]


@pytest.fixture
def connected(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Recorder,
    make_project: Callable[..., tuple[int, list[int]]],
) -> tuple[int, list[int]]:  # fmt: skip
    """A project of eight tasks with a tab of its people, connected; all is read but for the last task."""
    number, ids = make_project(8)
    client.create_view(number, THEIRS)
    connect(store, client, settings, number, recorder.url, check_order=False)
    rows = tasks.some(store, number, ids)
    probs = np.array([0.2, 0.7, 0.1])
    predicted = [StoredPrediction(n, rows[n].text_key, "Red", 0.7, probs) for n in ids[:-1]]
    versions.save(store, number, Version("v", 1, "published", 0), predicted)
    projects.change(store, number, published_version="v")
    return number, ids


def put(store: Store, client: LabelStudioClient, number: int, batch: str, order: list[int], first: int = 0) -> None:
    """Publish a batch of these tasks, the more sure the earlier, as the job does."""
    rows = [
        StoredEntry(task, first + n, "v", "Red", round(0.9 - 0.1 * (first + n), 1), "margin")
        for n, task in enumerate(order)
    ]
    batches.save(store, number, batch, rows)
    projects.change(store, number, batch_version=batch)
    publish.publish_batch(store, client, number, batch)
    tabs.keep(store, client, number)


def test_the_tabs_show_what_they_say(store: Store, client: LabelStudioClient, connected: tuple[int, list[int]]) -> None:
    number, ids = connected
    put(store, client, number, "v+batch-1", [ids[4], ids[0], ids[2]])
    assert shown(client, number, tab_shapes.NEXT) == [ids[4], ids[0], ids[2]]
    put(store, client, number, "v+batch-1", [ids[1]], first=3)  # a refill
    assert shown(client, number, tab_shapes.NEXT) == [ids[4], ids[0], ids[2], ids[1]]
    assert shown(client, number, tab_shapes.DOUBTFUL) == [ids[1], ids[2], ids[0], ids[4]]
    first = listed(client, number, tab_shapes.NEXT)[0]
    assert first["predictions_results"].startswith("[{why: 90 % sure: Red; chosen: margin, from_name: label")
    assert first["predictions_model_versions"] == "v+batch-1"
    client.submit(ids[0], choice("Red"))
    assert shown(client, number, tab_shapes.NEXT) == [ids[4], ids[2], ids[1]]
    put(store, client, number, "v+batch-2", [ids[5], ids[4]])  # the older batch's predictions are still there
    assert shown(client, number, tab_shapes.NEXT) == [ids[5], ids[4]]
    assert client.next_task(number)["id"] == ids[5]  # type: ignore[index]

    assert shown(client, number, tab_shapes.QUEUED) == [ids[-1]]
    assert shown(client, number, tab_shapes.ACCEPTED) == []
    part = choice("Red")[0] | {"id": f"{MARK}certificate-1.0"}
    client.import_predictions(number, [{"task": ids[6], "model_version": f"{MARK}certificate-1", "result": [part]}])
    client.annotate_from(number, f"{MARK}certificate-1", [ids[6]])
    assert shown(client, number, tab_shapes.ACCEPTED) == [ids[6]]

    projects.change(store, number, options={"audit_share": 0.1})
    tabs.keep(store, client, number)
    assert listed(client, number, tab_shapes.NEXT)[0]["predictions_results"] == ""


def test_disconnect_removes_exactly_ours(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Recorder, connected: tuple[int, list[int]]
) -> None:
    number, ids = connected
    put(store, client, number, "v+batch-1", ids[:2])
    ours = [tab_shapes.NEXT, tab_shapes.DOUBTFUL, tab_shapes.ACCEPTED, tab_shapes.QUEUED]
    assert titles(client, number) == [THEIRS["title"], *ours]
    connect(store, client, settings, number, recorder.url, check_order=False)
    assert titles(client, number) == [THEIRS["title"], *ours]
    renamed = next(view for view in client.views(number) if view["data"]["title"] == tab_shapes.DOUBTFUL)
    client.patch_view(int(renamed["id"]), number, renamed["data"] | {"title": "mine now"})
    lines = disconnect(store, client, number)
    assert any("mine now" in line and "stays" in line for line in lines)
    assert titles(client, number) == [THEIRS["title"], "mine now"]
    before = next(view["data"] for view in client.views(number) if view["data"]["title"] == THEIRS["title"])
    assert before == THEIRS


def test_a_kill_before_the_answer_leaves_no_double(
    store: Store, client: LabelStudioClient, connected: tuple[int, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    number, _ = connected
    tabs.remove(store, client, number)
    made, create_view = list[str](), LabelStudioClient.create_view

    def dies(self: LabelStudioClient, project_id: int, data: dict[str, Any]) -> dict[str, Any]:
        made.append(data["title"])
        found = create_view(self, project_id, data)
        if len(made) == 2:
            raise KeyboardInterrupt
        return found

    with monkeypatch.context() as patched:
        patched.setattr(LabelStudioClient, "create_view", dies)
        with pytest.raises(KeyboardInterrupt):
            tabs.keep(store, client, number, make=True)
    tabs.keep(store, client, number)  # the next publish, not another `connect`
    assert titles(client, number) == [
        THEIRS["title"],
        tab_shapes.NEXT,
        tab_shapes.DOUBTFUL,
        tab_shapes.ACCEPTED,
        tab_shapes.QUEUED,
    ]
    tabs.remove(store, client, number)
    assert titles(client, number) == [THEIRS["title"]]


def test_the_field_that_says_why_comes_and_goes(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Recorder, connected: tuple[int, list[int]]
) -> None:
    number, ids = connected
    connect(store, client, settings, number, recorder.url, check_order=False, why=True)
    assert show_why.shows(client.project(number).label_config)
    assert projects.get(store, number).decisions == label_config.parse(CONFIG)
    put(store, client, number, "v+batch-1", ids[:2])
    found = client._raw("predictions", "GET", "api/predictions/", params={"task": ids[0]})
    parts = found[0]["result"]
    assert [part["from_name"] for part in parts] == ["label", show_why.CONTROL]
    assert parts[1]["value"]["text"] == ["90 % sure: Red; chosen: margin"]
    client.submit(ids[0], choice("Red"))
    lines = disconnect(store, client, number)
    assert any("label_config" in line for line in lines)
    assert client.project(number).label_config == CONFIG
