"""On a real Label Studio: audit tasks are served without a label, also those that had one in the batch before."""

from __future__ import annotations

import numpy as np

from mollm_backend.jobs import audit_outlook, auditing
from mollm_backend.labelstudio import publish
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.reconcile import reconcile
from mollm_backend.store import Store, audit_answers, audits, batches, projects, tasks, versions
from mollm_backend.store.batches import StoredEntry
from mollm_backend.store.versions import StoredPrediction, Version


def submit(client: LabelStudioClient, task: int, label: str, parent: int) -> None:
    result = [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}]
    body = {"result": result, "lead_time": 1.0, "parent_prediction": parent}
    client._raw("submit", "POST", f"api/tasks/{task}/annotations/", body=body)


def test_the_stream_shows_no_label_of_an_audit_task_and_its_answer_is_blind(
    store: Store, client: LabelStudioClient, project: int
) -> None:
    reconcile(store, client, project, full=True)
    rows = tasks.every(store, project)
    said = [StoredPrediction(row.task_id, row.text_key, "Red", 0.9, np.array([0.9, 0.05, 0.05])) for row in rows]
    versions.save(store, project, Version("v1", 0, "published", 0), said)
    batch = [StoredEntry(row.task_id, n, "v1", "Red", 0.9, "margin") for n, row in enumerate(rows)]
    batches.save(store, project, "v1+batch-1", batch)
    projects.change(store, project, published_version="v1", batch_version="v1+batch-1")
    publish.publish_batch(store, client, project, "v1+batch-1")
    now = projects.get(store, project)
    planned = audit_outlook.plan(store, now, audit_outlook.Wanted(labels=4, seed=1))
    audit = auditing.make(store, now, planned.audit, planned.rest, planned.text_keys)
    served = projects.get(store, project).batch_version or ""
    publish.publish_batch(store, client, project, served)
    audited = [row.task_id for row in audits.tasks_of(store, project, audit.id)]
    order = [row.task_id for row in batches.entries(store, project, served)]
    for n, expected in enumerate(order):
        task = client.next_task(project)
        assert task is not None
        assert task["id"] == expected
        (shown,) = task["predictions"]
        assert shown["model_version"] == served
        assert bool(shown["result"]) == (expected not in audited)
        submit(client, expected, "Red" if n % 2 else "Blue", shown["id"])
    reconcile(store, client, project)
    found = audit_answers.of(store, project, audit)
    assert (found.complete, found.shown, found.skipped) == (True, 0, 0)
    assert dict(zip(found.task_ids.tolist(), found.right.tolist(), strict=True)) == {
        task_id: order.index(task_id) % 2 == 1 for task_id in audited
    }
    assert {row.task_id for row in audits.usable(store, project)} == set(order) - set(audited)
