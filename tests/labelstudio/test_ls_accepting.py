"""Writing what is accepted and taking it back, against an in-memory Label Studio that may end at any call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pytest

from mollm.records import Provenance
from mollm_backend.labelstudio import accepting, label_config
from mollm_backend.labelstudio.client import Imported
from mollm_backend.labelstudio.errors import LabelStudioError
from mollm_backend.labelstudio.provenance import annotation_of, certified_by, marked
from mollm_backend.labelstudio.reconcile import reconcile
from mollm_backend.store import Store, certificates, labels, projects, tasks
from mollm_backend.store.certificates import GRANTED, Accepted, Certificate
from mollm_backend.store.projects import Project
from tests.labelstudio.fake_studio import CONFIG, FakeStudio, result

P, US, PERSON = 3, 9, 1


class Studio(FakeStudio):
    """With the calls of accepting. A kill may come before or after each change."""

    def __init__(self, n: int) -> None:
        super().__init__(n)
        self.drafts: set[int] = set()
        self.refused: set[int] = set()

    def tasks_with_version(self, project_id: int, version: str, among: Sequence[int] = ()) -> set[int]:
        self._call()
        return {row["task"] for row in self.predictions.values() if row["model_version"] == version}

    def import_predictions(self, project_id: int, rows: Sequence[dict[str, Any]]) -> Imported:
        for row in rows:
            self._call()
            if row["task"] not in self.refused:
                number = self.new_id()
                self.predictions[number] = {"id": number, **row}
        self._call()
        gone = tuple((row["task"], "dropped") for row in rows if row["task"] in self.refused)
        return Imported(len(rows) - len(gone), gone)

    def annotate_from(self, project_id: int, version: str, task_ids: Sequence[int]) -> None:
        self._call()
        used = {row["parent_prediction"] for row in self.every().values()}
        for number, row in list(self.predictions.items()):
            free = row["task"] in task_ids and not self.annotations_of.get(row["task"])
            if free and row["model_version"] == version and number not in used and row["task"] in self.data:
                made = self.annotate(row["task"], "A", US, parent=number)
                self.annotations_of[row["task"]][made] |= {
                    "result": row["result"], "prediction": {}, "lead_time": None, "updated_by": None,
                }  # fmt: skip
        self._call()

    def tasks_with_drafts(self, project_id: int, task_ids: Sequence[int]) -> set[int]:
        self._call()
        return self.drafts & set(task_ids)

    def last_touch(self, project_id: int, task_ids: Sequence[int]) -> str:
        self._call()
        return max((self.stamps[task] for task in task_ids if task in self.stamps), default="")

    def delete_annotations(self, project_id: int, user_id: int, task_ids: Sequence[int], untouched_since: str) -> None:
        self._call()
        self.before_deletion()
        for task in task_ids:
            if self.stamps[task] <= untouched_since:
                mine = [n for n, row in self.annotations_of[task].items() if row["completed_by"] == user_id]
                for number in mine:
                    self.delete(task, number)
        self._call()

    def before_deletion(self) -> None:
        """What a person does between the look and the deletion."""

    def delete_version(self, project_id: int, version: str) -> None:
        self._call()
        self.predictions = {n: row for n, row in self.predictions.items() if row["model_version"] != version}
        for row in self.every().values():
            if row["parent_prediction"] not in self.predictions:
                row["parent_prediction"] = None
        self._call()

    def persons(self) -> dict[int, dict[str, Any]]:
        return {n: dict(row) for n, row in self.every().items() if row["completed_by"] == PERSON}

    def accepted(self) -> dict[int, str]:
        rows = [row for row in self.every().values() if certified_by(row)]
        assert len({row["task"] for row in rows}) == len(rows)
        return {row["task"]: row["result"][0]["value"]["choices"][0] for row in rows}


def prepared(store: Store, n: int = 30, accepted: int = 20) -> tuple[Studio, Project, Certificate, dict[int, str]]:
    """The first tasks are accepted, of the others every third has a person's label."""
    studio = Studio(n)
    projects.save(
        store, Project(P, studio.url, "fake", studio.created_at, CONFIG, label_config.parse(CONFIG))
    )  # fmt: skip
    ids = list(studio.data)
    for task in ids[accepted::3]:
        studio.annotate(task, "B")
    reconcile(store, studio, P)  # type: ignore[arg-type]
    keys = {row.task_id: row.text_key for row in tasks.every(store, P)}
    labels_of = {task: "ABC"[i % 3] for i, task in enumerate(ids[:accepted])}
    rows = [Accepted(task, {"": label}, keys[task]) for task, label in labels_of.items()]
    made = Certificate("audit-1", 1, accepted, 0, 0, accepted, 0.9, 0.95, status=GRANTED)
    return studio, projects.get(store, P), certificates.save(store, P, made, rows, last=True), labels_of


def finish(store: Store, studio: Studio, project: Project, step: Callable[..., list[str]] = accepting.write) -> None:
    for _ in range(100):
        left = certificates.unfinished(store, P)
        if not left:
            return
        step(store, studio, project, left[0])
    raise AssertionError("it never ends")


def small(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, size in (("PIECE", 8), ("ACTION", 3), ("LOOK", 4)):
        monkeypatch.setattr(accepting, name, size)


def test_exactly_the_accepted_come_and_go(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    studio, project, made, wanted = prepared(store)
    persons = studio.persons()
    finish(store, studio, project)
    assert studio.accepted() == wanted
    assert studio.persons() == persons
    assert certificates.states(store, P, made.id) == {"written": 20}
    rows = labels.every(store, P)
    assert {row.task_id: row.label for row in rows if row.provenance is Provenance.CERTIFIED} == wanted
    assert {row.user_id for row in labels.counted(rows)} == {PERSON}
    certificates.undo(store, P, made.id)
    finish(store, studio, project, accepting.take_back)
    assert studio.accepted() == {}
    assert studio.persons() == persons
    assert certificates.states(store, P, made.id) == {"undone": 20}
    assert studio.predictions == {}
    assert len(labels.every(store, P)) == len(persons)


@pytest.mark.parametrize("seed", range(25))
def test_a_kill_at_any_call_changes_nothing_of_it(store: Store, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    small(monkeypatch)
    studio, project, made, wanted = prepared(store)
    persons, rng = studio.persons(), np.random.default_rng(seed)

    def killed_often(step: Callable[..., list[str]]) -> None:
        for _ in range(4):
            studio.die_after = int(rng.integers(0, 120))
            with suppress(KeyboardInterrupt):
                finish(store, studio, project, step)
        studio.die_after = None
        finish(store, studio, project, step)

    killed_often(accepting.write)
    assert studio.accepted() == wanted
    assert certificates.states(store, P, made.id) == {"written": 20}
    certificates.undo(store, P, made.id)
    killed_often(accepting.take_back)
    assert studio.accepted() == {}
    assert studio.persons() == persons


def test_no_annotation_lacks_what_people_must_fill(store: Store) -> None:
    studio, project, made, wanted = prepared(store)
    must = (
        '<TextArea name="why" toName="text" required="true" visibleWhen="choice-selected" whenTagName="{}" {}/></View>'
    )
    control = project.decision.control
    studio.label_config = CONFIG.replace("</View>", must.format(control, 'whenChoiceValue="B"'))
    reconcile(store, studio, P)  # type: ignore[arg-type]
    finish(store, studio, projects.get(store, P))
    assert studio.accepted() == {task: label for task, label in wanted.items() if label != "B"}
    assert certificates.states(store, P, made.id) == {"written": 13, "undone": 7}


def test_it_waits_while_one_annotation_would_not_finish_a_task(store: Store) -> None:
    studio, project, made, wanted = prepared(store)
    studio.asked = 2
    with pytest.raises(LabelStudioError, match="asks for 2 annotations a task"):
        finish(store, studio, project)
    assert studio.accepted() == {}
    assert certificates.states(store, P, made.id) == {"waiting": 20}
    studio.asked = 1
    finish(store, studio, project)
    assert studio.accepted() == wanted


def test_nothing_of_a_person_is_overwritten_or_taken_back(store: Store) -> None:
    studio, project, made, wanted = prepared(store)
    ids = list(wanted)
    early = studio.annotate(ids[0], "C")
    finish(store, studio, project)
    assert ids[0] not in studio.accepted()
    assert certificates.states(store, P, made.id) == {"written": 19, "kept": 1}
    own = {row["task"]: number for number, row in studio.every().items() if row["completed_by"] == US}
    studio.edit(ids[1], own[ids[1]], "C")
    studio.annotations_of[ids[1]][own[ids[1]]] |= {"updated_by": PERSON, "lead_time": 3.0}
    second = studio.annotate(ids[2], "C")
    studio.drafts = {ids[3]}
    reconcile(store, studio, P)  # type: ignore[arg-type]
    people = {row.task_id: row for row in labels.counted(labels.every(store, P))}
    assert people[ids[1]].provenance is Provenance.EDITED
    assert people[ids[1]].label == "C"
    assert certificates.states(store, P, made.id) == {"written": 18, "kept": 2}
    certificates.undo(store, P, made.id)
    finish(store, studio, project, accepting.take_back)
    left = set(studio.every())
    assert {early, own[ids[1]], own[ids[2]], second, own[ids[3]]} <= left
    assert not left & {own[task] for task in ids[4:]}
    assert certificates.states(store, P, made.id) == {"kept": 4, "undone": 16}
    reconcile(store, studio, P, full=True)  # type: ignore[arg-type]
    kept = {row.task_id: row.label for row in labels.counted(labels.every(store, P))}
    assert kept[ids[1]] == "C"


def test_what_a_person_touches_between_the_look_and_the_removal_stays(store: Store) -> None:
    studio, project, made, wanted = prepared(store)
    finish(store, studio, project)
    first = next(iter(wanted))
    number = next(n for n, row in studio.every().items() if row["task"] == first)

    def touched() -> None:
        studio.edit(first, number, "C")
        studio.annotations_of[first][number] |= {"updated_by": PERSON, "lead_time": 3.0}
        studio.before_deletion = lambda: None  # type: ignore[method-assign]

    studio.before_deletion = touched  # type: ignore[method-assign]
    certificates.undo(store, P, made.id)
    finish(store, studio, project, accepting.take_back)
    assert studio.every()[number]["result"] == result("C")
    assert certificates.states(store, P, made.id) == {"kept": 1, "undone": 19}


def test_what_is_not_covered_is_left_to_people_and_said(store: Store) -> None:
    studio, project, made, wanted = prepared(store)
    ids = list(wanted)
    studio.edit_task(ids[0], "another text")
    studio.delete_task(ids[1])
    studio.refused = {ids[2]}
    lines = accepting.write(store, studio, project, made)  # type: ignore[arg-type]
    assert lines[0] == "certificate-1: 17 accepted tasks are done"
    assert lines[1] == "certificate-1: 3 tasks are left to people: edited, deleted or not written"
    assert lines[2] == f"task {ids[2]} was not accepted: dropped"
    assert set(studio.accepted()) == set(ids[3:])
    assert certificates.unfinished(store, P) == []


def test_many_gone_accepted_labels_are_no_loss_of_labels(store: Store) -> None:
    """Reconciliation asks before people's labels go; what was accepted may go."""
    studio, project, made, _ = prepared(store)
    finish(store, studio, project)
    for number, row in studio.every().items():
        if row["completed_by"] == US:
            studio.delete(row["task"], number)
    reconcile(store, studio, P)  # type: ignore[arg-type]
    assert certificates.states(store, P, made.id) == {"undone": 20}


def test_predictions_that_do_not_go_are_said(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    studio, project, made, _ = prepared(store)
    finish(store, studio, project)
    certificates.undo(store, P, made.id)

    def refuse(project_id: int, version: str) -> None:
        raise LabelStudioError("it does not want to")

    studio.delete_version = refuse  # type: ignore[method-assign]
    lines = accepting.take_back(store, studio, project, made)  # type: ignore[arg-type]
    assert "its predictions stay in Label Studio: it does not want to" in lines[-1]
    monkeypatch.setattr(accepting, "FORGET", 19)
    lines = accepting.take_back(store, studio, project, made)  # type: ignore[arg-type]
    assert lines == ["certificate-1: its predictions stay in Label Studio: so many would hold it up for long"]


RAW = {
    "id": 1, "task": 2, "completed_by": US, "parent_prediction": 7, "prediction": {}, "lead_time": None,
    "updated_by": None, "was_cancelled": False, "result": marked(result("A"), "mollm-accepted+certificate-4"),
    "created_at": "2026", "updated_at": "2026",
}  # fmt: skip
SHOWN = {"id": 7, "model_version": "mollm-accepted+certificate-4", "result": result("A")}


def read(raw: dict[str, Any]) -> tuple[Provenance, str | None]:
    (row,) = annotation_of(raw, label_config.parse(CONFIG), [], lambda _: SHOWN)
    return row.provenance, row.shown_version


def test_an_untouched_accepted_annotation_is_certified() -> None:
    assert read(RAW) == (Provenance.CERTIFIED, "mollm-accepted+certificate-4")


@pytest.mark.parametrize(
    ("touched", "provenance"),
    [
        ({"updated_by": PERSON}, Provenance.ACCEPTED),
        ({"lead_time": 2.0}, Provenance.ACCEPTED),
        ({"updated_by": PERSON, "result": result("B")}, Provenance.EDITED),
        ({"was_cancelled": True, "updated_by": PERSON}, Provenance.FROM_SCRATCH),
        ({"result": result("A")}, Provenance.BULK_ACCEPTED),
        ({"result": marked(result("A"), "another+1")}, Provenance.BULK_ACCEPTED),
    ],
)
def test_a_touched_one_is_the_persons(touched: dict[str, Any], provenance: Provenance) -> None:
    assert read(RAW | touched)[0] is provenance
