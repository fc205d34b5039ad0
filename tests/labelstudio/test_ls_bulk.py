"""The version of a bulk accepted label: looked up where few, listed where many, empty where it is not certain."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from mollm.records import Provenance
from mollm_backend.labelstudio import bulk, publish
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.connect import connect
from mollm_backend.labelstudio.reconcile import reconcile
from mollm_backend.settings import Settings
from mollm_backend.store import Store, batches, labels
from mollm_backend.store.batches import StoredEntry
from mollm_backend.store.labels import Annotation

MakeProject = Callable[..., tuple[int, list[int]]]


def accepted(count: int, provenance: Provenance = Provenance.BULK_ACCEPTED) -> list[Annotation]:
    return [Annotation(n, n, 1, "g", False, provenance, parent_prediction=1000 + n) for n in range(1, count + 1)]


def never(_: Any) -> Any:
    raise AssertionError("nothing need be asked")


def test_a_few_are_looked_up_and_a_lost_prediction_leaves_its_label_empty() -> None:
    def look_up(prediction: int) -> Mapping[str, Any] | None:
        return None if prediction == 1002 else {"model_version": f"b{prediction % 2}"}

    rows, unknown = bulk.with_versions(accepted(4), look_up, never)
    assert [row.shown_version for row in rows] == ["b1", None, "b1", "b0"]
    assert unknown == 1


def test_many_are_listed_and_only_a_single_version_is_certain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bulk, "LOOK_UPS", 2)
    asked: list[int] = []

    def look_up(prediction: int) -> Mapping[str, Any] | None:
        asked.append(prediction)
        return {"model_version": "b2"}

    def held(tasks: Sequence[int]) -> dict[int, set[str]]:
        return {task: {"b1"} if task < 7 else {"b1", "b2"} for task in tasks}

    rows, unknown = bulk.with_versions(accepted(10), look_up, held)
    assert [row.shown_version for row in rows] == ["b1"] * 6 + ["b2"] * 2 + [None] * 2
    assert asked == [1007, 1008]
    assert unknown == 2


def test_other_labels_are_left_as_they_are() -> None:
    rows = accepted(3, Provenance.ACCEPTED)
    assert bulk.with_versions(rows, never, never) == (rows, 0)
    assert bulk.with_versions([], never, never) == ([], 0)


@pytest.mark.label_studio
@pytest.mark.parametrize("look_ups", [300, 0])
def test_the_real_server_tells_either_way(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Any, make_project: MakeProject,
    monkeypatch: pytest.MonkeyPatch, look_ups: int,
) -> None:  # fmt: skip
    monkeypatch.setattr(bulk, "LOOK_UPS", look_ups)
    project, ids = make_project(4)
    connect(store, client, settings, project, recorder.url, check_order=False)
    for name, chosen in (("b1", ids[:3]), ("b2", ids[2:])):
        entries = [StoredEntry(task, n, "v1", "g", 0.6, "margin") for n, task in enumerate(chosen)]
        batches.save(store, project, name, entries)
        publish.publish_batch(store, client, project, name)
    body = {"selectedItems": {"all": True, "excluded": []}, "model_version": "b1"}
    params = {"id": "predictions_to_annotations", "project": project}
    client._raw("bulk", "POST", "api/dm/actions/", params=params, body=body)
    told = reconcile(store, client, project).lines
    found = {row.task_id: row.shown_version for row in labels.every(store, project)}
    assert found == {ids[0]: "b1", ids[1]: "b1", ids[2]: "b1" if look_ups else None}  # that one holds b2 as well
    assert any("which version" in line for line in told) is not bool(look_ups)
    client._raw("touch", "PATCH", f"api/tasks/{ids[0]}/", body={"meta": {"seen": 1}})
    reconcile(store, client, project, full=True)
    assert {row.task_id: row.shown_version for row in labels.every(store, project)} == found
