"""From the audit to the undo on a real Label Studio, with a writer that is killed in the middle.

MOLLM_ACCEPT_TASKS: how many tasks (300).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mollm.errors import InputError
from mollm.records import Provenance
from mollm_backend.jobs import audit_outlook, auditing, certifying
from mollm_backend.jobs.audit_outlook import Wanted
from mollm_backend.labelstudio import accepting, label_config
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.errors import LabelStudioError
from mollm_backend.labelstudio.publish import publish_batch
from mollm_backend.labelstudio.reconcile import reconcile
from mollm_backend.store import Store, audit_answers, audits, certificates, labels, projects, tasks, versions
from mollm_backend.store.projects import Project
from tests.real_label_studio import RealLabelStudio
from tests.waiting import eventually

pytestmark = [pytest.mark.label_studio, pytest.mark.slow]
TASKS, AUDITS = int(os.environ.get("MOLLM_ACCEPT_TASKS", "300")), 60
MARK = "mollm-accepted+certificate-1"
CONFIG = (
    '<View><Text name="text" value="$text"/><Choices name="label" toName="text" choice="single-radio">'
    '<Choice value="Red"/><Choice value="Green" alias="g"/><Choice value="Blue"/></Choices></View>'
)
# A writer in a process of its own, in small steps: STORE, URL, TOKEN, PROJECT and the function's name.
WRITER = """
import sys
from mollm_backend.labelstudio import accepting, label_config
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.store import Store, certificates, projects
accepting.PIECE, accepting.ACTION, accepting.LOOK = 100, 20, 20
store, client, project = Store(sys.argv[1]), LabelStudioClient(*sys.argv[2:4]), int(sys.argv[4])
while left := certificates.unfinished(store, project):
    getattr(accepting, sys.argv[5])(store, client, projects.get(store, project), left[0])
"""


def truth(text: str) -> str:
    return ("Red", "g", "Blue")[int(text.rsplit(" ", 1)[1]) % 3]


def result(label: str) -> list[dict[str, Any]]:
    return [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}]


def whole_export(client: LabelStudioClient, project: int) -> dict[int, list[dict[str, Any]]]:
    """Every annotation in full, by task, read independently of the code under test."""
    rows = client._raw("export", "GET", f"api/projects/{project}/export", params={"exportType": "JSON"})
    return {row["id"]: row["annotations"] for row in rows}


def of_people(export: dict[int, list[dict[str, Any]]]) -> dict[int, dict[str, Any]]:
    return {row["id"]: row for rows in export.values() for row in rows if not _is_ours(row)}


def ours(export: dict[int, list[dict[str, Any]]]) -> dict[int, dict[str, Any]]:
    return {task: row for task, rows in export.items() for row in rows if _is_ours(row)}


def _is_ours(row: dict[str, Any]) -> bool:
    return any(str(part.get("id", "")).startswith(MARK) for part in row["result"])


def with_version(store: Store, number: int) -> Project:
    """A published version that is wrong on one task of fifty."""
    rng, said = np.random.default_rng(1), []
    for row in tasks.every(store, number):
        right = truth(row.text or "")
        label = right if rng.random() > 0.02 else "Blue" if right == "Red" else "Red"
        said.append(versions.StoredPrediction(row.task_id, row.text_key, label, 0.95, np.full(3, 1 / 3)))
    versions.save(store, number, versions.Version("v1", 0, "fresh", 0), said)
    versions.publish(store, number, "v1")
    return projects.get(store, number)


def answer_the_stream(store: Store, client: LabelStudioClient, project: Project, count: int = AUDITS) -> None:
    """A person labels so many tasks that the stream serves, all of the audit; nothing is shown beforehand."""
    publish_batch(store, client, project.id, project.batch_version or "")
    for _ in range(count):
        task = client.next_task(project.id)
        assert task is not None
        assert [row["result"] for row in task["predictions"]] == [[]]
        client.submit(task["id"], result(truth(task["data"]["text"])), lead_time=1.0)
    reconcile(store, client, project.id)


def start_writer(store: Store, studio: RealLabelStudio, number: int, step: str) -> subprocess.Popen[bytes]:
    words = (store.url.render_as_string(hide_password=False), studio.url, studio.token, str(number), step)
    return subprocess.Popen([sys.executable, "-c", WRITER, *words])


def kill_in_the_middle(
    writer: subprocess.Popen[bytes], client: LabelStudioClient, number: int, there: Callable[[int], bool]
) -> None:
    """SIGKILL once the number of annotations says that a part is done."""
    try:
        assert eventually(lambda: there(client.project(number).annotations), 300)
        assert writer.poll() is None
    finally:
        os.kill(writer.pid, signal.SIGKILL)
        writer.wait()


def set_up(store: Store, client: LabelStudioClient, title: str) -> tuple[Project, list[int]]:
    """A project with a published version, in which a person has labelled five tasks; and the tasks' ids."""
    number = client.create_project(title, CONFIG)
    ids = client.import_tasks(number, [{"text": f"text number {i}"} for i in range(TASKS)])
    remote = client.project(number)
    projects.save(store, Project(number, client.url, title, remote.created_at, CONFIG, label_config.parse(CONFIG)))
    for task in ids[:5]:
        client.submit(task, result("Red"), lead_time=1.0)
    reconcile(store, client, number)
    return with_version(store, number), ids


def test_a_whole_audit_ends_in_the_stream_as_soon_as_its_answers_suffice(
    store: Store, client: LabelStudioClient
) -> None:
    """Then all other tasks are accepted, also those of the audit that nobody has answered."""
    project, ids = set_up(store, client, "whole")
    wanted = Wanted(labels=TASKS // 2, whole=True, wrong=TASKS // 5, seed=1)
    planned = audit_outlook.plan(store, project, wanted)
    audit = auditing.make(store, project, planned.audit, planned.rest, planned.text_keys)
    project = projects.get(store, project.id)
    answer_the_stream(store, client, project, 20)
    with pytest.raises(InputError, match="of the first 20 are wrong: the evidence is"):
        certifying.ready(store, project, audit, now=False)
    answer_the_stream(store, client, project, 40)
    answers = audit_answers.of(store, project.id, audit)
    made = certifying.decide(store, project, certifying.ready(store, project, audit, now=False))
    assert 0 < made.audits <= len(answers.right) < len(audits.tasks_of(store, project.id, audit.id))
    accepting.write(store, client, project, made)
    export = whole_export(client, project.id)
    people = of_people(export)
    assert set(ours(export)) | {row["task"] for row in people.values()} == set(ids)
    assert len(ours(export)) == made.accepted == TASKS - len(people)


@pytest.mark.timeout(3000)
def test_exactly_the_accepted_come_and_go(
    store: Store, client: LabelStudioClient, studio: RealLabelStudio
) -> None:  # fmt: skip
    project, _ids = set_up(store, client, "accept")
    number = project.id
    planned = audit_outlook.plan(store, project, Wanted(labels=AUDITS, target=0.8, seed=1))
    audit = auditing.make(store, project, planned.audit, planned.rest, planned.text_keys)
    project = projects.get(store, number)
    answer_the_stream(store, client, project)
    assert audit_answers.of(store, number, audit).complete
    made = certifying.decide(store, project, certifying.ready(store, project, audit, now=False))
    assert made.accepted > TASKS / 3
    wanted = {row.task_id: row.labels[""] for row in certificates.rows(store, number, made.id, certificates.WAITING)}
    people = of_people(whole_export(client, number))
    assert len(people) == 5 + AUDITS

    client.patch_project(number, maximum_annotations=2)
    with pytest.raises(LabelStudioError, match="asks for 2 annotations a task"):
        accepting.write(store, client, project, made)
    client.patch_project(number, maximum_annotations=1)
    writer = start_writer(store, studio, number, "write")
    kill_in_the_middle(writer, client, number, lambda count: count > len(people) + 10)
    part = ours(whole_export(client, number))
    assert 0 < len(part) < len(wanted)
    assert start_writer(store, studio, number, "write").wait(600) == 0
    export = whole_export(client, number)
    accepted = ours(export)
    assert {task: row["result"][0]["value"]["choices"][0] for task, row in accepted.items()} == wanted
    assert sum(map(len, export.values())) == len(people) + len(wanted)
    assert of_people(export) == people
    versions_of = {client.prediction(row["parent_prediction"])["model_version"] for row in list(accepted.values())[:3]}  # type: ignore[index]
    assert versions_of == {MARK}
    assert certificates.states(store, number, made.id) == {"written": len(wanted)}
    assert all(client._raw("task", "GET", f"api/tasks/{task}/")["is_labeled"] for task in list(wanted)[:3])
    how = labels.how(store, number)
    assert (how["certified"], how["from_scratch"]) == (len(wanted), len(people))

    edited, beside, begun, *rest = list(accepted)
    body = {"result": result("Blue"), "lead_time": 2.0}
    client._raw("edit", "PATCH", f"api/annotations/{accepted[edited]['id']}/", body=body)
    client.submit(beside, result("Blue"), lead_time=1.0)
    draft = f"api/tasks/{begun}/annotations/{accepted[begun]['id']}/drafts"
    client._raw("draft", "POST", draft, body={"result": result("Blue"), "lead_time": 1.0})
    reconcile(store, client, number)
    mine = {row.task_id: row for row in labels.counted(labels.every(store, number))}
    assert mine[edited].label == "Blue"
    assert mine[edited].provenance in (Provenance.EDITED, Provenance.ACCEPTED)
    moved, person = rest[0], accepted[rest[0]]["completed_by"]
    stamp = client.last_touch(number, [moved])
    client._raw("touch", "PATCH", f"api/tasks/{moved}/", body={"overlap": 1})
    assert client.last_touch(number, [moved]) > stamp
    client.delete_annotations(number, person, [moved], stamp)
    assert client.annotation_ids(moved) == {accepted[moved]["id"]}
    certificates.undo(store, number, made.id)
    total = client.project(number).annotations
    writer = start_writer(store, studio, number, "take_back")
    kill_in_the_middle(writer, client, number, lambda count: count < total - 10)
    assert start_writer(store, studio, number, "take_back").wait(600) == 0
    export = whole_export(client, number)
    left = {row["id"] for rows in export.values() for row in rows}
    assert not left & {accepted[task]["id"] for task in rest}
    assert {accepted[task]["id"] for task in (edited, beside, begun)} <= left
    assert len(left) == len(people) + 4
    assert {number: row for number, row in of_people(export).items() if number in people} == people
    assert certificates.states(store, number, made.id) == {"kept": 3, "undone": len(wanted) - 3}
    assert client.tasks_with_version(number, MARK) == set()
    assert accepting.take_back(store, client, project, made) == []
