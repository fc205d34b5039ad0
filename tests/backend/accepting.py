"""A project whose rest is to be accepted: predictions, an audit and its answers."""

from __future__ import annotations

from typing import Any

import numpy as np
from click.testing import Result
from typer.testing import CliRunner

from mollm.records import Provenance
from mollm_backend.cli import app as command_line
from mollm_backend.jobs import audit_outlook, auditing
from mollm_backend.jobs.audit_outlook import Wanted
from mollm_backend.store import Store, audits, labels, projects, versions
from mollm_backend.store.audits import Audit
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import Project

from .conftest import add_texts

TASKS = 600
AT = "2026-01-02T00:00:00.000000Z"


def truth(task_id: int) -> str:
    """As `add_texts` numbers its animals."""
    return "dog" if task_id % 2 else "cat"


def predicted(store: Store, wrong: float = 0.02, version: str = "v1", dogs: float = 1.0) -> Project:
    """A published version that is wrong on a share of the tasks, at random; fewer `dogs`: they are wrong more often."""
    rows, rng = add_texts(store, TASKS), np.random.default_rng(3)
    said = []
    for row in rows:
        right, sure = truth(row.task_id), 0.99 - 0.1 * float(rng.random())
        share = wrong if right == "cat" else wrong / dogs
        label = right if rng.random() >= share else {"cat": "dog", "dog": "cat"}[right]
        probs = np.array([sure, 1 - sure]) if label == "cat" else np.array([1 - sure, sure])
        said.append(versions.StoredPrediction(row.task_id, row.item.text_key, label, sure, probs))
    versions.save(store, 7, versions.Version(version, 0, "fresh", 0), said)
    versions.publish(store, 7, version)
    return projects.get(store, 7)


def audited(store: Store, project: Project, answered: int | None = None, **wanted: Any) -> Audit:
    """An audit, whose first tasks in turn are answered as they are true (None: all)."""
    planned = audit_outlook.plan(store, project, Wanted(**({"labels": 120, "target": 0.9, "seed": 5} | wanted)))
    made = auditing.make(store, project, planned.audit, planned.rest, planned.text_keys)
    answer(store, made, answered)
    return made


def answer(store: Store, audit: Audit, count: int | None = None, **values: Any) -> None:
    drawn = audits.tasks_of(store, 7, audit.id)[:count]
    labels.upsert(store, 7, [annotation(row.task_id, truth(row.task_id), **values) for row in drawn])


def last_status(store: Store) -> str:
    """Of the last audit."""
    found = audits.newest(store, 7)
    assert found is not None
    return found.status


def annotation(task_id: int, label: str | None, **values: Any) -> Annotation:
    kept = {"annotation_id": 10_000 + task_id, "user_id": 1, "was_cancelled": False, "created_at": AT, "updated_at": AT,
            "provenance": Provenance.FROM_SCRATCH} | values  # fmt: skip
    return Annotation(task_id=task_id, label=label, **kept)


def run(*words: str) -> Result:
    return CliRunner().invoke(command_line, ["accept", "7", *words])
