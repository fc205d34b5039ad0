"""Against a real Label Studio: connect, events, reconciliation and the served order."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from mollm.records import Provenance
from mollm_backend.labelstudio import label_config, publish, tab_shapes
from mollm_backend.labelstudio import order as ordering
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.connect import connect, disconnect
from mollm_backend.labelstudio.errors import LabelsWouldVanish, OtherProject
from mollm_backend.labelstudio.events import SECRET_HEADER, parse
from mollm_backend.labelstudio.prune import prune
from mollm_backend.labelstudio.reconcile import reconcile
from mollm_backend.settings import Settings
from mollm_backend.store import Store, batches, labels, projects, tasks
from mollm_backend.store.batches import StoredEntry
from tests.waiting import eventually

pytestmark = pytest.mark.label_studio
MakeProject = Callable[..., tuple[int, list[int]]]


def submit(client: LabelStudioClient, task: int, label: str, **more: Any) -> int:
    result = [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}]
    body = {"result": result, "lead_time": 1.0} | more
    return int(client._raw("submit", "POST", f"api/tasks/{task}/annotations/", body=body)["id"])


def action(client: LabelStudioClient, name: str, project: int, ids: list[int], **more: Any) -> None:
    body = {"selectedItems": {"all": False, "included": ids}, **more}
    client._raw(name, "POST", "api/dm/actions/", params={"id": name, "project": project}, body=body)


def batch_of(order: list[int], first_rank: int = 0) -> list[StoredEntry]:
    return [StoredEntry(task, first_rank + n, "v1", "g", 0.6, "margin") for n, task in enumerate(order)]


def connected(store: Store, client: LabelStudioClient, settings: Settings, project: int, url: str) -> None:
    connect(store, client, settings, project, url, check_order=False)


def exported(client: LabelStudioClient, project: int) -> dict[int, str | None]:
    """A fresh export, read independently of the code under test: annotation id to its choice."""
    rows = client._raw("export", "GET", f"api/projects/{project}/export", params={"exportType": "JSON"})
    found = {}
    for row in rows:
        for annotation in row["annotations"]:
            result = annotation["result"]
            skipped = annotation["was_cancelled"] or not result
            found[annotation["id"]] = None if skipped else result[0]["value"]["choices"][0]
    return found


def stored(store: Store, project: int) -> dict[int, str | None]:
    return {row.annotation_id: row.label for row in labels.every(store, project)}


def test_connect_makes_events_arrive_and_disconnect_puts_all_back(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Any, make_project: MakeProject
) -> None:
    project, ids = make_project(4)
    submit(client, ids[0], "Red")
    count = client._raw("count", "GET", "api/projects/")["count"]
    before = client.project(project)
    found = connect(store, client, settings, project, recorder.url)
    assert len(labels.human_labels(labels.every(store, project))) == 1
    assert found.connection["order"] == {"served": True, "reason": "", "release": client.version()}
    assert client._raw("count", "GET", "api/projects/")["count"] == count  # the rehearsal's project is gone
    assert found.decision.labels.names == ("Red", "g", "Blue")
    assert [hook["url"] for hook in client.webhooks(project)] == [f"{recorder.url}/webhook"]
    assert any("Authorization" in headers for path, headers, _ in recorder.requests if path == "/setup")

    recorder.requests.clear()
    annotation = submit(client, ids[1], "g")
    client._raw("edit", "PATCH", f"api/annotations/{annotation}/", body={"lead_time": 2.0})
    client._gone("delete", f"api/annotations/{annotation}/")
    action(client, "delete_tasks", project, [ids[2]])
    client.patch_project(project, title="another title")
    assert eventually(lambda: len(recorder.events()) >= 5)
    arrived = [parse(body) for _, body in recorder.events()]
    assert [event.action for event in arrived] == [
        "ANNOTATION_CREATED", "ANNOTATION_UPDATED", "ANNOTATIONS_DELETED", "TASKS_DELETED", "PROJECT_UPDATED",
    ]  # fmt: skip
    assert {event.project_id for event in arrived} == {project}
    assert all(headers[SECRET_HEADER] == "hook-secret" for headers, _ in recorder.events())

    connect(store, client, settings, project, recorder.url, check_order=False)  # a second time changes nothing
    assert len(client.webhooks(project)) == 1
    assert len(client.ml_backends(project)) == 1

    assert disconnect(store, client, project)
    after = client.project(project)
    assert (after.sampling, after.model_version) == (before.sampling, before.model_version)
    assert client.webhooks(project) == []
    assert client.ml_backends(project) == []
    assert not projects.get(store, project).connected


def test_the_stream_serves_exactly_the_batch_and_a_refill_comes_after_it(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Any, make_project: MakeProject
) -> None:
    project, ids = make_project(16)
    connected(store, client, settings, project, recorder.url)
    order = [ids[i] for i in (7, 2, 11, 0, 5, 14, 3)]
    batches.save(store, project, "v1+batch-1", batch_of(order))
    report = publish.publish_batch(store, client, project, "v1+batch-1")
    assert (report.created, report.refused) == (7, ())
    assert publish.publish_batch(store, client, project, "v1+batch-1").created == 0
    assert ordering.why_not_served(client.project(project), "v1+batch-1") == ""

    served = []
    for n in range(11):
        if n == 5:  # two are open: refilled in place, scores after the others
            more = [ids[i] for i in (9, 1, 15, 4)]
            batches.save(store, project, "v1+batch-1", batch_of(more, first_rank=len(order)))
            publish.publish_batch(store, client, project, "v1+batch-1")
        task = client.next_task(project)
        assert task is not None
        served.append(task["id"])
        shown = [row for row in task["predictions"] if row["model_version"] == "v1+batch-1"]
        assert shown[0]["result"][0]["value"] == {"choices": ["g"]}
        assert shown[0]["result"][0]["score"] == 0.6
        submit(client, task["id"], "g", parent_prediction=shown[0]["id"])
    assert served == order + more
    reconcile(store, client, project)
    rows = labels.every(store, project)
    assert {row.provenance for row in rows} == {Provenance.ACCEPTED}
    assert {row.shown_version for row in rows} == {"v1+batch-1"}


def test_what_is_not_of_the_batch_comes_after_it_with_its_confidence_as_score(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Any, make_project: MakeProject
) -> None:
    project, ids = make_project(6)
    connected(store, client, settings, project, recorder.url)
    batches.save(store, project, "b1", batch_of(ids[:3]))
    publish.publish_batch(store, client, project, "b1")
    opened = [(ids[4], 0.34), (ids[3], 0.9)]  # as the backend answers for tasks that somebody opened
    result = client.next_task(project)["predictions"][0]["result"]  # type: ignore[index]
    rows = [
        {"task": task, "model_version": "b1", "score": label_config.outside_score(sure), "result": result}
        for task, sure in opened
    ]
    assert client.import_predictions(project, rows).created == 2
    served = []
    for _ in range(5):
        task = client.next_task(project)
        assert task is not None
        served.append((task["id"], task["predictions"][0]["score"]))
        submit(client, task["id"], "g", parent_prediction=task["predictions"][0]["id"])
    assert [number for number, _ in served] == [*ids[:3], ids[4], ids[3]]
    assert served[3:] == opened
    assert all(score < 1e-6 for _, score in served[:3])


def test_label_studio_drops_a_score_that_is_no_probability(
    client: LabelStudioClient, make_project: MakeProject
) -> None:
    """Why a place is a tiny score and not a negative one, which no person could read as a confidence."""
    project, ids = make_project(3)
    rows = [{"task": task, "model_version": "b1", "score": score, "result": []}
            for task, score in zip(ids, (-1.0, 2.0, 1e-9), strict=True)]  # fmt: skip
    client.import_predictions(project, rows)
    assert client.tasks_with_version(project, "b1") == {ids[2]}


def test_a_killed_publish_is_taken_up_without_doubles(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Any, make_project: MakeProject
) -> None:
    project, ids = make_project(5)
    connected(store, client, settings, project, recorder.url)
    batches.save(store, project, "v1+batch-1", batch_of(ids[:3]))
    rows, _ = publish._batch_rows(
        store, projects.get(store, project), "v1+batch-1", batches.entries(store, project, "v1+batch-1")[:2]
    )
    client.import_predictions(project, rows)  # imported, and killed before it was written down
    assert publish.publish_batch(store, client, project, "v1+batch-1").created == 1
    assert client.tasks_with_version(project, "v1+batch-1") == set(ids[:3])
    held = client._raw("list", "GET", "api/predictions/", params={"project": project})
    assert len(held) == 3


def test_a_batch_with_a_deleted_task_and_a_lost_label_goes_on(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Any, make_project: MakeProject
) -> None:
    project, ids = make_project(5)
    connected(store, client, settings, project, recorder.url)
    entries = batch_of(ids)
    batches.save(store, project, "b", [*entries[:4], replace(entries[4], label="Mauve")])
    action(client, "delete_tasks", project, [ids[1]])  # unseen by the store
    report = publish.publish_batch(store, client, project, "b")
    assert report.created == 3
    assert sorted(task for task, _ in report.refused) == [ids[1], ids[4]]


def test_reconcile_follows_every_change(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Any, make_project: MakeProject
) -> None:
    project, ids = make_project(20)
    connected(store, client, settings, project, recorder.url)
    batches.save(store, project, "b1", batch_of(ids[:10]))
    publish.publish_batch(store, client, project, "b1")
    held = {row["task"]: row["id"] for row in client._raw("l", "GET", "api/predictions/", params={"project": project})}

    scratch = submit(client, ids[15], "Red")
    accepted = submit(client, ids[0], "g", parent_prediction=held[ids[0]])
    edited = submit(client, ids[1], "Blue", parent_prediction=held[ids[1]])
    skip = client._raw(
        "skip", "POST", f"api/tasks/{ids[2]}/annotations/", params={"was_cancelled": 1}, body={"result": []}
    )["id"]
    action(client, "predictions_to_annotations", project, ids[3:6], model_version="b1")
    report = reconcile(store, client, project)
    assert stored(store, project) == exported(client, project)
    assert (report.new_labels, labels.count(store, project)) == (7, 6)
    how = {row.annotation_id: row.provenance for row in labels.every(store, project)}
    assert how[scratch] is Provenance.FROM_SCRATCH
    assert how[accepted] is Provenance.ACCEPTED
    assert how[edited] is Provenance.EDITED
    assert sorted(how.values()).count(Provenance.BULK_ACCEPTED) == 3
    assert labels.closed_tasks(labels.every(store, project)) >= {ids[2]}

    # Nothing new: the same rows, no line.
    before = labels.every(store, project)
    assert reconcile(store, client, project).lines == ()
    assert labels.every(store, project) == before

    # Edit a label, edit a task's data (no event is sent for it), delete a task, import one with an annotation.
    client._raw(
        "edit", "PATCH", f"api/annotations/{accepted}/",
        body={"result": [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": ["Red"]}}]},
    )  # fmt: skip
    client._raw("data", "PATCH", f"api/tasks/{ids[12]}/", body={"data": {"text": "quite another text"}})
    action(client, "delete_tasks", project, [ids[1]])
    client._gone("delete", f"api/annotations/{skip}/")
    done = [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": ["Blue"]}}]
    client._raw(
        "import", "POST", f"api/projects/{project}/import",
        body=[{"data": {"text": "comes with a label"}, "annotations": [{"result": done}]}],
    )  # fmt: skip
    report = reconcile(store, client, project)
    assert stored(store, project) == exported(client, project)
    assert (report.new_tasks, report.changed_tasks, report.deleted_tasks) == (1, 1, 1)
    assert (report.new_labels, report.changed_labels, report.deleted_labels) == (1, 1, 2)
    assert tasks.some(store, project, [ids[12]])[ids[12]].text == "quite another text"
    assert {row.annotation_id: row.provenance for row in labels.every(store, project)}[accepted] is Provenance.EDITED

    # A deleted version takes parent_prediction away in Label Studio; the store keeps what it saw first.
    action(client, "delete_tasks_predictions", project, ids[:10])
    before = {row.annotation_id: row.provenance for row in labels.every(store, project)}
    reconcile(store, client, project, full=True)
    assert {row.annotation_id: row.provenance for row in labels.every(store, project)} == before


def test_provenance_is_recovered_when_the_version_was_deleted_before_we_looked(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Any, make_project: MakeProject
) -> None:
    project, ids = make_project(4)
    connected(store, client, settings, project, recorder.url)
    batches.save(store, project, "b1", batch_of(ids))
    publish.publish_batch(store, client, project, "b1")
    held = {row["task"]: row["id"] for row in client._raw("l", "GET", "api/predictions/", params={"project": project})}
    same = submit(client, ids[0], "g", parent_prediction=held[ids[0]])
    other = submit(client, ids[1], "Red", parent_prediction=held[ids[1]])
    beside = submit(client, ids[2], "g")  # the page showed one, but it was made beside it
    action(client, "delete_tasks_predictions", project, ids[:2])
    reconcile(store, client, project)
    how = {row.annotation_id: row.provenance for row in labels.every(store, project)}
    assert how == {same: Provenance.ACCEPTED, other: Provenance.EDITED, beside: Provenance.FROM_SCRATCH}


def test_a_changed_config_is_named_and_labels_are_read_again(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Any, make_project: MakeProject
) -> None:
    project, ids = make_project(3)
    connected(store, client, settings, project, recorder.url)
    submit(client, ids[0], "Red")
    reconcile(store, client, project)
    config = client.project(project).label_config.replace('<Choice value="Blue"/>', '<Choice value="Black"/>')
    client.patch_project(project, label_config=config)
    report = reconcile(store, client, project)
    said = "\n".join(report.lines)
    assert "Black" in said
    assert "Blue" in said
    assert projects.get(store, project).decision.labels.names == ("Red", "g", "Black")
    assert labels.count(store, project) == 1


def test_too_much_loss_stops_and_asks(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Any, make_project: MakeProject
) -> None:
    project, ids = make_project(12)
    connected(store, client, settings, project, recorder.url)
    for task in ids[:10]:
        submit(client, task, "Red")
    reconcile(store, client, project)
    action(client, "delete_tasks", project, ids[:6])
    with pytest.raises(LabelsWouldVanish, match="6 of 10"):
        reconcile(store, client, project)
    assert len(stored(store, project)) == 10
    assert "accept-loss" in projects.get(store, project).attention
    reconcile(store, client, project, accept_loss=True)
    assert labels.count(store, project) == 4
    assert projects.get(store, project).attention == ""


def test_another_project_under_the_same_number_changes_nothing(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Any, make_project: MakeProject
) -> None:
    project, _ids = make_project(3)
    connected(store, client, settings, project, recorder.url)
    projects.change(store, project, ls_created_at="2001-01-01T00:00:00Z")
    with pytest.raises(OtherProject):
        reconcile(store, client, project)
    assert len(tasks.every(store, project)) == 3


def test_a_blind_share_is_served_in_its_place_and_counts_as_from_scratch(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Any, make_project: MakeProject
) -> None:
    project, ids = make_project(3)
    connected(store, client, settings, project, recorder.url)
    projects.change(store, project, options={"blind_share": 1.0})
    batches.save(store, project, "b1", batch_of(ids[::-1]))
    assert publish.publish_batch(store, client, project, "b1").created == 3
    for expected in ids[::-1]:
        task = client.next_task(project)
        assert task is not None
        assert task["id"] == expected
        assert task["predictions"][0]["result"] == []
        submit(client, expected, "g", parent_prediction=task["predictions"][0]["id"])
    reconcile(store, client, project)
    for row in labels.every(store, project):
        assert (row.provenance, row.shown_version, row.shown_label) == (Provenance.FROM_SCRATCH, "b1", None)
    client._raw("touch", "PATCH", f"api/annotations/{row.annotation_id}/", body={"lead_time": 9.0})
    reconcile(store, client, project)
    assert {row.provenance for row in labels.every(store, project)} == {Provenance.FROM_SCRATCH}


def test_what_somebody_holds_open_is_not_pruned(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Any, make_project: MakeProject
) -> None:
    project, ids = make_project(6)
    connected(store, client, settings, project, recorder.url)
    batches.save(store, project, "b1", batch_of(ids[:3]))
    publish.publish_batch(store, client, project, "b1")
    task = client.next_task(project)  # somebody opens it ...
    assert task is not None
    parent = task["predictions"][0]["id"]
    batches.save(store, project, "b2", batch_of(ids[3:]))
    publish.publish_batch(store, client, project, "b2")
    projects.change(store, project, batch_version="b2")
    assert prune(store, client, project) == ()
    submit(client, task["id"], "g", parent_prediction=parent)  # ... and may submit after it

    assert len(prune(store, client, project, at=datetime.now(UTC) + timedelta(hours=25))) == 1
    assert client.tasks_with_version(project, "b1") == set()
    assert client.tasks_with_version(project, "b2") == set(ids[3:])
    reconcile(store, client, project, full=True)
    assert [row.provenance for row in labels.every(store, project)] == [Provenance.ACCEPTED]
    assert publish.publish_batch(store, client, project, "b1").created == 3  # a rollback brings it back


def test_several_annotations_a_task_come_with_a_tab(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Any, make_project: MakeProject
) -> None:
    project, ids = make_project(3)
    connected(store, client, settings, project, recorder.url)
    client.patch_project(project, maximum_annotations=2)
    batches.save(store, project, "b1", batch_of(ids))
    said = "\n".join(publish.publish_batch(store, client, project, "b1").lines)
    assert tab_shapes.NEXT in said
    assert [view["data"]["title"] for view in client.views(project)].count(tab_shapes.NEXT) == 1
    assert "half-labelled" in said


class Dying(LabelStudioClient):
    """A client whose process dies at one of its calls."""

    left = 10**9

    def _raw(self, *args: Any, **kwargs: Any) -> Any:
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt
        return super()._raw(*args, **kwargs)


def test_a_random_history_with_kills_ends_as_a_fresh_export(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Any, make_project: MakeProject
) -> None:
    rng = np.random.default_rng(7)
    project, ids = make_project(40)
    connected(store, client, settings, project, recorder.url)
    batches.save(store, project, "b1", batch_of(ids))
    publish.publish_batch(store, client, project, "b1")
    held = {row["task"]: row["id"] for row in client._raw("l", "GET", "api/predictions/", params={"project": project})}
    how: dict[int, Provenance] = {}
    mine: dict[int, int] = {}  # annotation id to task
    free = list(ids)
    dying = Dying(client.url, client._api_key)
    for _ in range(45):
        act = rng.choice(["scratch", "accept", "edit", "change", "delete", "bulk", "gone", "pass"])
        if act in ("scratch", "accept", "edit") and free:
            task = free.pop(int(rng.integers(len(free))))
            label = "g" if act == "accept" else "Red"
            more = {} if act == "scratch" else {"parent_prediction": held[task]}
            number = submit(client, task, label, **more)
            mine[number] = task
            how[number] = {"scratch": Provenance.FROM_SCRATCH, "accept": Provenance.ACCEPTED}.get(
                str(act), Provenance.EDITED
            )
        elif act == "bulk" and len(free) > 2:
            action(client, "predictions_to_annotations", project, [free.pop(), free.pop()], model_version="b1")
            for number in exported(client, project):
                if number not in how:
                    how[number] = Provenance.BULK_ACCEPTED
        elif act == "change" and mine:
            number = int(rng.choice(list(mine)))
            result = [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": ["Blue"]}}]
            client._raw("edit", "PATCH", f"api/annotations/{number}/", body={"result": result})
            if how[number] is not Provenance.FROM_SCRATCH:
                how[number] = Provenance.EDITED
        elif act == "delete" and mine:
            number = int(rng.choice(list(mine)))
            client._gone("delete", f"api/annotations/{number}/")
            del mine[number], how[number]
        elif act == "gone" and len(free) > 20:
            action(client, "delete_tasks", project, [free.pop()])
        elif act == "pass":
            dying.left = int(rng.integers(1, 5))
            with suppress(KeyboardInterrupt):
                reconcile(store, dying, project, accept_loss=True, full=bool(rng.integers(2)))
    dying.close()
    reconcile(store, client, project, accept_loss=True)
    assert stored(store, project) == exported(client, project)
    assert {row.annotation_id: row.provenance for row in labels.every(store, project)} == how
    there = {task.id: task.data["text"] for task in client.tasks(project)}
    assert {task.task_id: task.text for task in tasks.every(store, project)} == there
