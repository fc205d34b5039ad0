"""A whole project on real parts: read, audited in the stream, accepted, undone, with the worker killed in each writing.

Exactly the accepted labels come and go, and no annotation of a person changes. Tasks: MOLLM_ACCEPT_TASKS (1,000).
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mollm_backend.jobs import acting, certifying
from mollm_backend.jobs.audit_outlook import Wanted
from mollm_backend.labelstudio.connect import connect
from mollm_backend.store import audit_answers, audits, certificates, labels, projects, versions
from mollm_backend.work import queues
from mollm_backend.work.actions import Asked

from ..real_label_studio import executable
from .installation import (
    Installation,
    again_if_busy,
    all_predicted,
    installation,
    load,
    result,
    script,
    until,
    write_panel,
)

TASKS, AUDITS, TARGET = int(os.environ.get("MOLLM_ACCEPT_TASKS", "1000")), 100, 0.7
SOUNDS = {"meow": "cat", "woof": "dog", "moo": "cow"}


def truth(text: str) -> str:
    return SOUNDS[text.rsplit(" ", 1)[1]]


@contextmanager
def a_worker(there: Installation, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        command, environment = script("tests.faults.accepting_worker"), os.environ | dict(there.environment)
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def export(there: Installation, project: int) -> dict[int, list[dict[str, Any]]]:
    """Every annotation by task, read by a fresh export and not by the code under test."""
    params = {"exportType": "JSON"}
    rows = there.client._raw("export", "GET", f"api/projects/{project}/export", params=params, seconds=600)
    return {row["id"]: row["annotations"] for row in rows}


def killed_in_the_middle(there: Installation, project: int, log: Path, begun: Callable[[int], bool]) -> int:
    """SIGKILL a worker once the number of annotations says that it has begun; returns that number afterwards."""
    with a_worker(there, log) as process:
        until(lambda: begun(there.client.project(project).annotations), 300, every=0.05)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    return there.client.project(project).annotations


@pytest.mark.faults
@pytest.mark.label_studio
@pytest.mark.timeout(3600)
def test_the_accepted_come_and_go_although_the_worker_is_killed(tmp_path: Path) -> None:
    if not executable().exists():
        pytest.skip(f"no Label Studio at {executable()}: set MOLLM_LABEL_STUDIO to its executable")
    panel, texts = write_panel(tmp_path, TASKS)
    with installation(tmp_path, panel, MOLLM_REFIT_EVERY="10000") as there:
        project, ids = there.make_project(texts)
        connect(there.store, there.client, there.settings, project, there.url, check_order=False)
        log, right = tmp_path / "worker.log", dict(zip(ids, map(truth, texts), strict=True))
        with a_worker(there, log):
            until(lambda: all_predicted(there.store, project), 600)
            wanted = Wanted(labels=AUDITS, target=TARGET, seed=1)
            _, audit = acting.draw(there.store, Asked(project, "audit", str(AUDITS), "a test"), wanted)
            queues.nudge(there.connection, project)
            tasks_of = {row.task_id for row in audits.tasks_of(there.store, project, audit.id)}
            until(lambda: bool(there.client.next_task(project)), 120)
            answered = set[int]()
            while not tasks_of <= answered:  # a person labels what the stream serves
                task = there.client.next_task(project)
                assert task is not None
                answered.add(task["id"])
                said = result(right[task["id"]])
                again_if_busy(lambda n=task["id"], said=said: there.client.submit(n, said, lead_time=1.0))  # type: ignore[misc]
            until(lambda: audit_answers.of(there.store, project, audit).complete, 120)
        people = {row["id"]: row for rows in export(there, project).values() for row in rows}
        found = projects.get(there.store, project)
        made = certifying.decide(there.store, found, certifying.ready(there.store, found, audit, now=False))
        wrote = {
            row.task_id: row.labels[""]
            for row in certificates.rows(there.store, project, made.id, certificates.WAITING)
        }
        assert made.accepted > TASKS / 4
        queues.nudge(there.connection, project)

        part = killed_in_the_middle(there, project, log, lambda count: count > len(people) + 30)
        assert len(people) < part < len(people) + made.accepted
        with a_worker(there, log):
            until(lambda: not certificates.unfinished(there.store, project), 600)
        rows = export(there, project)
        ours = {task: row for task, rows_ in rows.items() for row in rows_ if row["id"] not in people}
        assert {task: row["result"][0]["value"]["choices"][0] for task, row in ours.items()} == wrote
        assert sum(map(len, rows.values())) == len(people) + len(ours)
        assert {row["id"]: row for rows_ in rows.values() for row in rows_ if row["id"] in people} == people
        assert labels.how(there.store, project)["certified"] == made.accepted
        held = sum(right[task] == label for task, label in wrote.items()) / len(wrote)

        certificates.undo(there.store, project, made.id)
        queues.nudge(there.connection, project)
        total = there.client.project(project).annotations
        left = killed_in_the_middle(there, project, log, lambda count: count < total - 30)
        assert len(people) < left < total
        with a_worker(there, log):
            until(lambda: not certificates.unfinished(there.store, project), 600)
        after = {row["id"]: row for rows_ in export(there, project).values() for row in rows_}
        trained = len(versions.every(there.store, project))
    print(
        f"{TASKS} tasks, {len(people)} labels of people ({AUDITS} of them audits), {made.accepted} accepted at "
        f"{TARGET:g} ({held:.3f} right); killed after {part - len(people)} of them were written and when "
        f"{left - len(people)} were left to take back: none missing, none twice, no label of a person changed; "
        f"{trained} versions; {load()}"
    )
    assert after == people
    assert held >= TARGET
