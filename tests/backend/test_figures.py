"""What is known of a project's labels: agreement with n and interval, and each class on a decided audit."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from flask import Flask

from mollm.records import Provenance
from mollm_backend.jobs import standing
from mollm_backend.store import Store, audits, frozen, labels, projects, versions
from mollm_backend.store.audits import Audit, AuditTask, Part
from mollm_backend.store.labels import Annotation
from mollm_backend.work import figures

from .conftest import add_texts
from .test_app import BASIC


def said(store: Store, number: int, task: int, label: str, user: int = 1) -> None:
    row = Annotation(
        number,
        task,
        user,
        label,
        False,
        Provenance.FROM_SCRATCH,
        created_at=f"2026-01-01T00:{number // 60:02}:{number % 60:02}+00:00",
    )
    labels.upsert(store, 7, [row])


def predicted(store: Store, count: int) -> None:
    """A published version that calls every task a dog, the first ones more surely."""
    rows = add_texts(store, count)
    found = [
        versions.StoredPrediction(row.task_id, row.item.text_key, "dog", 0.99 - 0.001 * n, np.array([0.1, 0.9]))
        for n, row in enumerate(rows)
    ]
    versions.save(store, 7, versions.Version("v1", 0, "published", 0), found)
    versions.publish(store, 7, "v1")


def test_people_agree_with_each_other_and_with_an_llm(store: Store) -> None:
    rows = add_texts(store, 40)
    for row in rows:
        said(store, row.task_id, row.task_id, "dog" if row.task_id % 2 else "cat")
    for task in range(1, 11):
        said(store, 100 + task, task, "cat", user=2)
    found = figures.of_project(store, projects.get(store, 7))
    agreed = found["decisions"][""]["agreement"]
    assert agreed["people"]["raw"] == pytest.approx(agreed["people"]["raw"] | {"n": 10, "value": 0.5})
    tiny, small = agreed["llms"].values()
    assert tiny["n"] == small["n"] == 40
    assert tiny["raw"]["low"] < tiny["raw"]["value"] < small["raw"]["value"] < small["raw"]["high"]
    assert sum(map(sum, tiny["confusion"])) == 50
    assert [line.split(":")[0] for line in found["lines"]] == [
        "people with each other", "people with tiny", "people with small",
    ]  # fmt: skip


def test_each_class_stands_with_what_it_was_measured_on_once_the_audit_is_decided(store: Store) -> None:
    predicted(store, 60)
    project = projects.get(store, 7)
    rest, keys = frozen.freeze(store, project, prod)
    part = Part("simple", 20, 40, 20, 60, 0.05)
    drawn = [AuditTask(int(rest.task_ids[n]), 0, n, n, 0.5, rest.labels_at(n), keys[n]) for n in range(20)]
    audit = audits.make(store, 7, Audit("v1", audits.CERTIFICATE, 0.9, 0.95, 1, (part,),
                                        audits.asked_digest(project.decisions)), rest, drawn)  # fmt: skip
    for row in drawn:
        said(store, row.task_id, row.task_id, "cat" if row.turn < 4 else "dog")
    assert figures.of_project(store, project)["decisions"][""]["classes"] is None  # still open: it is not told
    audits.decide(store, 7, audit.id)
    found = figures.of_project(store, project)
    dog = found["decisions"][""]["classes"]["classes"][project.decision.labels.index("dog")]
    assert dog["precision"]["n"] == 20
    assert dog["precision"]["value"] == pytest.approx(0.8)
    assert dog["precision"]["low"] < 0.8 < dog["precision"]["high"]
    assert any("of the 40 most confident of 60 tasks open then" in line for line in found["lines"])


def test_nothing_is_said_of_nothing(store: Store) -> None:
    add_texts(store, 3)
    found = figures.of_project(store, projects.get(store, 7))
    assert found["lines"] == []


def test_the_page_shows_what_a_job_noted_and_counts_an_open_audit_itself(store: Store, app: Flask) -> None:
    predicted(store, 40)
    project = projects.get(store, 7)
    rest, keys = frozen.freeze(store, project, prod)
    part = Part("simple", 10, 40, 20, 40, 0.05)
    drawn = [AuditTask(int(rest.task_ids[n]), 0, n, n, 0.25, rest.labels_at(n), keys[n]) for n in range(10)]
    audits.make(store, 7, Audit("v1", audits.CERTIFICATE, 0.9, 0.95, 1, (part,),
                                audits.asked_digest(project.decisions)), rest, drawn)  # fmt: skip
    said(store, 1, drawn[0].task_id, "dog")
    standing.note(store, 7, 50)
    page = app.test_client().get("/projects/7", headers=BASIC).get_data(as_text=True)
    assert "audit-1: 1 of 10 answered" in page
    assert "audit-1 of v1" not in page  # what was noted of it would be old by the next answer
    assert "To finish with 95% of all tasks right" in page
    assert projects.get(store, 7).trust["lines"] == standing.lines(
        standing.of_project(store, projects.get(store, 7), 50) | {"audit": None}
    )
