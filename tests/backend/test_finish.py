"""`mollm finish` and its line in the report: what is open, and what it costs at the project's pace."""

from __future__ import annotations

import json
import re
from typing import Any, cast

import numpy as np
import pytest
from typer.testing import CliRunner

from mollm.acceptance.plan import Goal
from mollm.records import Provenance
from mollm_backend.cli import app
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.settings import Settings
from mollm_backend.store import Store, audits, certificates, labels, projects, tasks, versions
from mollm_backend.store.frozen import Frozen
from mollm_backend.store.labels import Annotation
from mollm_backend.store.versions import StoredPrediction, Version
from mollm_backend.work import finishing
from tests.backend.conftest import add_texts
from tests.labelstudio.fake_studio import FakeStudio

TEXTS = 600


def annotation(number: int, task: int, at: int, user: int = 1, *, skip: bool = False) -> Annotation:
    made = f"2026-01-02T10:{at // 60:02}:{at % 60:02}.000000Z"
    return Annotation(
        number, task, user, None if skip else "cat", skip, Provenance.FROM_SCRATCH, created_at=made, updated_at=made
    )  # fmt: skip


@pytest.fixture
def pool(store: Store, monkeypatch: pytest.MonkeyPatch, settings: Settings) -> Store:
    """600 texts, all but one predicted at .98; of the first 21 people have labelled 20 and skipped one."""
    monkeypatch.setenv("MOLLM_HOME", str(settings.home))
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    for name in ("LABEL_STUDIO_URL", "LABEL_STUDIO_API_KEY", "DATABASE_URL"):
        monkeypatch.delenv(name, raising=False)
    rows = add_texts(store, TEXTS)
    known = [StoredPrediction(row.task_id, row.text_key, "cat", 0.98, np.array([0.98, 0.02])) for row in rows[:-1]]
    versions.save(store, 7, Version("v1", 1, "candidate", 20), known)
    versions.publish(store, 7, "v1")
    said = [annotation(n, n, 10 * n) for n in range(1, 21)]
    labels.upsert(store, 7, [*said, annotation(21, 21, 210, skip=True)])
    return store


def found(store: Store, **goal: Any) -> finishing.Standing:
    return finishing.of(store, projects.get(store, 7), Goal(**goal))


def test_what_is_open_labelled_and_unknown_is_counted(pool: Store) -> None:
    standing = found(pool)
    assert (standing.tasks, standing.given) == (TEXTS - 1, 20)  # one was skipped
    assert standing.finish is not None
    assert standing.finish.open == TEXTS - 21
    assert standing.finish.wrong == pytest.approx(0.02 * (TEXTS - 22) + 1)  # one is not predicted
    assert standing.finish.doubted == pytest.approx(standing.finish.wrong)  # 20 labels: nothing to allow for
    assert standing.finish.allowed == 29
    assert standing.seconds == 10
    assert standing.finish.hours == pytest.approx(standing.finish.expected * 10 / 3600)


def test_an_edited_text_counts_as_not_predicted(pool: Store) -> None:
    before = found(pool).finish
    tasks.upsert(pool, 7, [tasks.Task(100, "other", "a new text")])
    after = found(pool).finish
    assert before is not None
    assert after is not None
    assert after.wrong == pytest.approx(before.wrong + 0.98)


def test_a_pause_and_another_person_s_label_are_no_gap() -> None:
    rows = [annotation(1, 1, 0), annotation(2, 2, 8), annotation(3, 3, 4, user=2), annotation(4, 4, 16)]
    assert finishing.gaps(rows) == [8.0, 8.0]


def test_the_lead_times_are_those_of_label_studio(pool: Store) -> None:
    studio = FakeStudio(0)
    for task in range(1, 30):
        studio.annotations_of[task] = {task: {"id": task, "lead_time": float(task)}}
    times = finishing.lead_times(pool, cast(LabelStudioClient, studio), projects.get(pool, 7))
    assert sorted(times) == [float(n) for n in range(1, 22)]  # what the store knows


def test_the_command_says_what_comes_next_without_label_studio(pool: Store) -> None:
    told = CliRunner().invoke(app, ["finish", "7"], catch_exceptions=False)
    assert told.exit_code == 0
    for said in (
        "7 Pets",
        "20 of 599 tasks",
        "expects to have some 13 wrong; 29 may be",
        "nothing is certified",
        "a label takes 10 seconds",
        "more labels, ",
    ):
        assert said in told.stdout
    assert "LABEL_STUDIO_URL" in told.stderr
    answer = json.loads(CliRunner().invoke(app, ["finish", "7", "--target", ".9", "--json"]).stdout)
    assert (answer["target"], answer["labels"], answer["seconds_a_label"]) == (0.9, 20, 10)
    assert answer["plan"]["expected"] < json.loads(told_json())["plan"]["expected"]


def told_json() -> str:
    return CliRunner().invoke(app, ["finish", "7", "--json"]).stdout


def test_the_report_has_its_line(pool: Store) -> None:
    line = found(pool, batch=50).line()
    assert line.startswith("To finish with 95% of all tasks right: ")
    assert line in CliRunner().invoke(app, ["report", "7"], catch_exceptions=False).stdout


def test_nothing_is_planned_before_anything_is_predicted(pool: Store) -> None:
    projects.change(pool, 7, published_version=None)
    standing = found(pool)
    assert standing.finish is None
    assert standing.line() == ""
    assert "nothing is predicted yet" in standing.lines()[-1]
    assert json.loads(told_json())["plan"] is None


def test_an_open_audit_is_told_and_a_decided_one_counts(pool: Store) -> None:
    part = audits.Part("simple", 2, 4, 1, 4, 0.05)
    audit = audits.Audit("v1", audits.CERTIFICATE, 0.95, 0.95, 0, (part,), "digest")
    frozen = Frozen(np.arange(100, 104), np.arange(4), np.full(4, 0.98), {}, {})
    made = audits.make(pool, 7, audit, frozen, [])
    assert "audit-1 is open: 0 of 0 answered" in "".join(found(pool).lines())
    audits.decide(pool, 7, made.id)
    assert found(pool).trust == finishing.Trust(audits=1)
    first = found(pool, target=0.93).finish
    audits.decide(pool, 7, audits.make(pool, 7, audit, frozen, []).id)
    second = found(pool, target=0.93).finish
    assert first is not None
    assert second is not None
    assert first.expected < second.expected


def test_accepted_tasks_are_nobodys_labels_and_spend_what_their_certificate_bears(pool: Store) -> None:
    part = audits.Part("simple", 2, 200, 1, 200, 0.05)
    frozen = Frozen(np.arange(100, 300), np.arange(200), np.full(200, 0.98), {}, {})
    audit = audits.make(pool, 7, audits.Audit("v1", audits.CERTIFICATE, 0.8, 0.95, 0, (part,), "digest"), frozen, [])
    rows = [certificates.Accepted(task, {"": "cat"}, "key") for task in range(100, 300)]
    granted = certificates.Certificate(audit.id, 1, 202, 2, 0, 200, 0.8, 0.95, status=certificates.GRANTED)
    certificates.save(pool, 7, granted, rows, last=True)
    standing = found(pool, target=0.9)
    assert (standing.tasks, standing.given) == (TEXTS - 1, 20)
    assert standing.trust == finishing.Trust(audits=1, accepted=200, spent=40)
    assert standing.finish is not None
    assert standing.finish.open == TEXTS - 21 - 200
    assert standing.finish.allowed == 59 - 40
    assert "Out of reach: 40 of the accepted tasks may be wrong" in found(pool).line()


def test_the_audit_that_comes_next_is_named_as_a_command(pool: Store) -> None:
    standing = found(pool, target=0.8)
    assert standing.finish is not None
    assert standing.finish.step == "audit"
    told = re.search(r"`mollm audit 7 --whole --labels (\d+) --wrong (\d+)`", standing.command())
    assert told is not None
    assert (standing.finish.audit.labels, standing.finish.allowed) == (int(told[1]), int(told[2]))
    assert standing.command() in CliRunner().invoke(app, ["finish", "7", "--target", ".8"]).stdout
