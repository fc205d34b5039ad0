"""An audit keeps what it was drawn from, and its answers are kept apart until it ends."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mollm.errors import InputError
from mollm.records import LabelSet, Provenance
from mollm_backend.store import Store, audit_answers, audits, frozen, labels, projects, revisions, tasks, versions
from mollm_backend.store.audits import Audit, AuditTask, Part
from mollm_backend.store.decisions import Decision, Source
from mollm_backend.store.frozen import Frozen
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import Project
from mollm_backend.store.tasks import Task
from mollm_backend.store.versions import StoredPrediction, Version

SOURCE = (Source("text", "text"),)
ONE = (Decision("label", SOURCE, LabelSet(("cat", "dog"))),)
TWO = (
    Decision("kind", SOURCE, LabelSet(("cat", "dog")), key="kind"),
    Decision("mood", SOURCE, LabelSet(("glad", "sad")), key="mood"),
)
N = 8


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store(url)
    yield opened
    opened.close()


def fill(store: Store, decisions: tuple[Decision, ...] = ONE) -> Project:
    """A project of 8 tasks: the version says each decision's first label of all, of task n with confidence n / 10."""
    found = Project(7, "ls", "Pets", "", "<View/>", decisions, published_version="v1", batch_version="v1+batch-1")
    projects.save(store, found)
    rows = [Task(n, "h", f"text {n}") for n in range(1, N + 1)]
    tasks.upsert(store, 7, rows)
    said = [
        StoredPrediction(
            row.task_id, row.text_key, decision.labels.names[0], row.task_id / 10, np.array([0.5, 0.5]),
            decision=decision.key,
        )
        for row in rows for decision in decisions
    ]  # fmt: skip
    versions.save(store, 7, Version("v1", 0, "published", 0), said)
    return found


def answer(
    store: Store, task_id: int, *said: str | None, number: int = 0, at: str = "",
    provenance: Provenance = Provenance.FROM_SCRATCH,
) -> None:  # fmt: skip
    """A person labels a task, in each decision; None: skipped."""
    keys = [row.key for row in projects.get(store, 7).decisions]
    rows = [
        Annotation(
            number or 100 + task_id, task_id, 1, label, label is None, provenance, created_at=at, updated_at=at,
            decision=key,
        )
        for key, label in zip(keys, said, strict=True)
    ]  # fmt: skip
    labels.upsert(store, 7, rows)


def made(store: Store, project: Project, *task_ids: int, purpose: str = audits.CERTIFICATE) -> Audit:
    """An audit of these tasks, in this turn, out of the whole open rest."""
    rest, keys = frozen.freeze(store, project, prod)
    K, places = len(rest.task_ids), {int(task_id): n for n, task_id in enumerate(rest.task_ids)}
    audit = Audit(
        "v1", purpose, 0.9, 0.95, 3, (Part("simple", len(task_ids), K, 1, K, 0.05),),
        audits.asked_digest(project.decisions),
    )  # fmt: skip
    rows = [
        AuditTask(n, 0, places[n], turn, len(task_ids) / K, rest.labels_at(places[n]), keys[places[n]])
        for turn, n in enumerate(task_ids)
    ]
    return audits.make(store, 7, audit, rest, rows)


def test_the_rest_is_what_is_open_and_predicted_as_it_is_now_the_surest_first(store: Store) -> None:
    project = fill(store)
    answer(store, 8, "cat")
    answer(store, 7, None)
    tasks.upsert(store, 7, [Task(6, "h", "edited"), Task(5, "h", None, "no text"), Task(20, "h", "not predicted")])
    tasks.tombstone(store, 7, [4])
    project = replace(project, options={"shots": [["text 3", "cat"]]})
    rest, keys = frozen.freeze(store, project, prod)
    assert rest.task_ids.tolist() == [2, 1]
    assert rest.confidence.tolist() == pytest.approx([0.2, 0.1])
    assert keys == [Task(n, "h", f"text {n}").text_key for n in (2, 1)]
    assert rest.labels_at(0) == {"": "cat"}


def test_several_decisions_make_one_confidence_and_all_must_be_predicted(store: Store) -> None:
    project = fill(store, TWO)
    rest, _ = frozen.freeze(store, project, prod)
    assert rest.confidence.tolist() == pytest.approx([(n / 10) ** 2 for n in range(8, 0, -1)])
    assert rest.labels_at(0) == {"kind": "cat", "mood": "glad"}
    new = replace(project, decisions=(*TWO, Decision("size", SOURCE, LabelSet(("big", "small")), key="size")))
    assert not len(frozen.freeze(store, new, prod)[0].task_ids)


def test_of_equally_sure_tasks_the_lower_number_comes_first(store: Store) -> None:
    project = fill(store)
    rows = [replace(row, confidence=0.5) for row in versions.predicted(store, 7, "v1").values()]
    versions.save(store, 7, Version("v1", 0, "published", 0), reversed(rows))
    assert frozen.freeze(store, project, prod)[0].task_ids.tolist() == list(range(1, N + 1))


CELLS = st.tuples(st.integers(1, 2**31 - 1), st.integers(-(2**63), 2**63 - 1), st.floats(0, 1, width=32),
                  st.sampled_from([0, 1]))  # fmt: skip


@given(st.lists(CELLS, max_size=30))
def test_a_frozen_rest_comes_back_as_it_was(rows: list[tuple[int, int, float, int]]) -> None:
    ids, texts, sure, codes = (list(column) for column in zip(*rows, strict=True)) if rows else ([], [], [], [])
    was = Frozen(
        np.array(ids, np.int64), np.array(texts, np.int64), np.array(sure, np.float64), {"k": ("ä", "dog")},
        {"k": np.array(codes, np.int64)},
    )  # fmt: skip
    now = frozen.unpacked(frozen.packed(was))
    assert now.task_ids.tolist() == ids
    assert now.texts.tolist() == texts
    assert now.confidence.tolist() == sure
    assert [now.labels_at(n) for n in range(len(rows))] == [{"k": ("ä", "dog")[code]} for code in codes]


def test_an_audit_is_read_as_it_was_made_and_numbered(store: Store) -> None:
    project = fill(store)
    first = made(store, project, 8, 3)
    assert first.id == "audit-1"
    assert audits.find(store, 7, "audit-1") == first
    assert [(row.task_id, row.place, row.probability) for row in audits.tasks_of(store, 7, "audit-1")] == [
        (8, 0, 0.25), (3, 5, 0.25),
    ]  # fmt: skip
    assert audits.frozen_of(store, 7, "audit-1").task_ids.tolist() == list(range(8, 0, -1))
    with pytest.raises(InputError, match="audit-1 is open"):
        made(store, project, 1)
    standing = made(store, project, 1, purpose=audits.STANDING)
    audits.decide(store, 7, first.id)
    third = made(store, project, 5)
    assert (standing.id, third.id) == ("audit-2", "audit-3")
    assert audits.newest(store, 7) == third
    assert [row.id for row in audits.every(store, 7, status=audits.OPEN)] == ["audit-2", "audit-3"]
    with pytest.raises(InputError, match="audit-9"):
        audits.frozen_of(store, 7, "audit-9")


def test_pending_are_the_tasks_that_nobody_has_answered_and_that_are_as_they_were(store: Store) -> None:
    project = fill(store)
    audit = made(store, project, 8, 3, 5, 1, 2)
    answer(store, 3, "dog")
    answer(store, 5, None)
    tasks.upsert(store, 7, [Task(1, "h", "edited")])
    assert audits.pending(store, 7) == [8, 2]
    tasks.tombstone(store, 7, [8])
    assert audits.pending(store, 7, audit.id) == [2]
    assert audits.pending(store, 7, "audit-2") == []
    audits.withdraw(store, 7, audit.id, "why")
    assert audits.pending(store, 7) == []
    assert audits.find(store, 7, audit.id) == replace(audit, status=audits.WITHDRAWN, note="why")


def test_what_is_no_blind_answer_counts_as_wrong(store: Store) -> None:
    audit = made(store, fill(store), 8, 7, 6, 5, 4, 3, 2)
    answer(store, 8, "cat")
    answer(store, 7, "dog")
    answer(store, 6, None)
    answer(store, 5, "cat", provenance=Provenance.ACCEPTED)
    tasks.tombstone(store, 7, [4])
    answer(store, 3, "cat", number=50, at="2026-01-02")
    answer(store, 3, "dog", number=60, at="2026-01-01")  # the first in time counts
    found = audit_answers.of(store, 7, audit)
    assert found.task_ids.tolist() == [8, 7, 6, 5, 4, 3]
    assert found.right.tolist() == [True, False, False, False, False, False]
    assert found.said[0] == {"": "cat"}
    assert found.said[-1] == {"": "dog"}
    assert (found.skipped, found.lost, found.shown, found.in_turn, found.total) == (1, 1, 1, 6, 7)
    assert found.confidence == pytest.approx([0.8, 0.7, 0.6, 0.5, 0.4, 0.3])
    assert found.probability == pytest.approx([7 / 8] * 6)
    assert not found.complete
    assert found.line() == "6 of 7 answered, 1 skipped, 1 edited or deleted, 1 with a pre-annotation in view"
    labels.tombstone(store, 7, [108])
    assert audit_answers.of(store, 7, audit).in_turn == 0


def test_of_several_decisions_all_must_be_right(store: Store) -> None:
    audit = made(store, fill(store, TWO), 8, 7, 6)
    answer(store, 8, "cat", "glad")
    answer(store, 7, "cat", "sad")
    rows = [
        Annotation(106, 6, 1, label, False, Provenance.FROM_SCRATCH, decision=key)
        for key, label in (("kind", "cat"), ("mood", None))
    ]
    labels.upsert(store, 7, rows)
    found = audit_answers.of(store, 7, audit)
    assert found.right.tolist() == [True, False, False]
    assert (found.skipped, found.complete) == (1, True)


def test_answers_are_kept_apart_until_the_audit_ends_and_then_count(store: Store) -> None:
    audit = made(store, fill(store), 8, 7)
    answer(store, 8, "cat")
    answer(store, 1, "cat")
    assert audits.set_aside(store, 7) == {7, 8}
    assert [row.task_id for row in audits.usable(store, 7)] == [1]
    before = revisions.of_project(store, 7, [])
    audits.decide(store, 7, audit.id)
    assert audits.set_aside(store, 7) == set()
    assert [row.task_id for row in audits.usable(store, 7)] == [1, 8]
    after = revisions.of_project(store, 7, [])
    assert all(after[subject] > before[subject] for subject in ("labels 7", "work 7"))
    assert len(audit_answers.of(store, 7, audit).right) == 1
    audits.withdraw(store, 7, audit.id, "too late")
    found = audits.find(store, 7, audit.id)
    assert found is not None
    assert found.status == audits.DECIDED


@given(st.lists(st.text("0123456789abcdef", min_size=16, max_size=32), max_size=5))
def test_text_codes_tell_edits(keys: list[str]) -> None:
    codes = frozen.text_codes(keys).tolist()
    assert [a == b for a in codes for b in codes] == [a[:16] == b[:16] for a in keys for b in keys]
