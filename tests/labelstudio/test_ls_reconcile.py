"""Reconciliation against an in-memory Label Studio: random histories, kills anywhere, what is not to be believed."""

from __future__ import annotations

import itertools
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mollm.errors import ConfigError
from mollm.records import Provenance
from mollm_backend.labelstudio import label_config
from mollm_backend.labelstudio.errors import LabelStudioError, LabelsWouldVanish, OtherProject
from mollm_backend.labelstudio.reconcile import ReconcileReport, reconcile
from mollm_backend.store import Store, labels, projects, tasks
from mollm_backend.store.projects import Project
from tests.labelstudio.fake_studio import CONFIG, FakeStudio

P = 3


def connected(store: Store, studio: FakeStudio) -> None:
    task = label_config.parse(CONFIG)
    projects.save(store, Project(P, studio.url, "fake", studio.created_at, CONFIG, task))


def run(store: Store, studio: Any, **more: bool) -> ReconcileReport:
    return reconcile(store, studio, P, **more)


def said(store: Store) -> dict[int, tuple[int, int, str | None, bool]]:
    return {
        row.annotation_id: (row.task_id, row.user_id, row.label, row.was_cancelled) for row in labels.every(store, P)
    }


def labelled(store: Store) -> int:
    return labels.count(store, P)


def studio_of_labelled_tasks(store: Store, n: int) -> FakeStudio:
    """Connected and read: `n` tasks with the label A each."""
    studio = FakeStudio(n)
    connected(store, studio)
    for task in studio.data:
        studio.annotate(task, "A")
    run(store, studio)
    return studio


def truth(studio: FakeStudio) -> dict[int, tuple[int, int, str | None, bool]]:
    return {
        number: (
            row["task"], row["completed_by"],
            None if row["was_cancelled"] else row["result"][0]["value"]["choices"][0], row["was_cancelled"],
        )
        for number, row in studio.every().items()
    }  # fmt: skip


def one_step(studio: FakeStudio, rng: np.random.Generator) -> None:
    act = rng.choice(
        ["task", "text", "gone", "label", "accept", "skip", "edit", "delete"],
        p=[0.1, 0.1, 0.03, 0.3, 0.2, 0.07, 0.15, 0.05],
    )
    task = int(rng.choice(list(studio.data)))
    rows = studio.every()
    label = str(rng.choice(["A", "B", "C"]))
    if act == "task":
        studio.add_task(f"another {studio.number}")
    elif act == "text":
        studio.edit_task(task, f"edited {studio.number}")
    elif act == "gone" and len(studio.data) > 5:
        studio.delete_task(task)
    elif act in ("label", "skip"):
        studio.annotate(task, label if act == "label" else None, person=int(rng.integers(1, 4)))
    elif act == "accept":
        studio.annotate(task, label, parent=studio.predict(task, label))
    elif rows:
        number = int(rng.choice(list(rows)))
        if act == "edit":
            studio.edit(rows[number]["task"], number, label)
        elif act == "delete":
            studio.delete(rows[number]["task"], number)


@pytest.mark.parametrize("seed", range(8))
def test_a_random_history_with_kills_anywhere_ends_as_the_truth(
    seed: int, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(seed)
    studio = FakeStudio(20)
    connected(store, studio)
    fatal = iter(())

    def dying(function: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            if next(fatal, False):
                raise KeyboardInterrupt
            return function(*args, **kwargs)

        return call

    for room, name in [
        (tasks, "upsert"),
        (tasks, "tombstone"),
        (tasks, "stamp"),
        (labels, "upsert"),
        (labels, "tombstone"),
    ]:
        monkeypatch.setattr(room, name, dying(getattr(room, name)))
    for _ in range(40):
        for _ in range(int(rng.integers(1, 8))):
            one_step(studio, rng)
        studio.die_after = int(rng.integers(0, 60)) if rng.random() < 0.4 else None
        fatal = iter([False] * int(rng.integers(0, 6)) + [True]) if rng.random() < 0.4 else iter(())
        with suppress(KeyboardInterrupt):
            run(store, studio, accept_loss=True)
    studio.die_after, fatal = None, iter(())
    run(store, studio, accept_loss=True)
    assert said(store) == truth(studio)
    assert {task.task_id: task.text for task in tasks.every(store, P)} == {
        task: data["text"] for task, data in studio.data.items()
    }
    assert run(store, studio).lines == ()


def test_a_pass_is_cheap_when_little_changed(store: Store) -> None:
    studio = FakeStudio(500)
    connected(store, studio)
    run(store, studio)
    studio.listed = 0
    studio.annotate(min(studio.data), "A")
    assert run(store, studio).new_labels == 1
    assert studio.listed < 70  # the minute before the last stamp, not all 500
    studio.listed = 0
    studio.delete_task(min(studio.data))
    assert run(store, studio).deleted_tasks == 1
    assert studio.listed >= 499  # only a complete listing may say that a task is gone


def test_loss_above_a_fifth_asks_and_below_it_does_not(store: Store) -> None:
    studio = FakeStudio(40)
    connected(store, studio)
    ids = sorted(studio.data)
    numbers = {task: studio.annotate(task, "A") for task in ids[:30]}
    run(store, studio)
    for task in ids[:6]:
        studio.delete(task, numbers[task])
    assert run(store, studio).deleted_labels == 6  # a fifth of 30
    for task in ids[6:12]:
        studio.delete(task, numbers[task])
    with pytest.raises(LabelsWouldVanish):
        run(store, studio)
    with pytest.raises(LabelsWouldVanish):  # and again, however it is asked
        run(store, studio, full=True)
    assert len(said(store)) == 24
    run(store, studio, accept_loss=True)
    assert labelled(store) == 18
    for task in ids[12:14]:
        studio.delete(task, numbers[task])
    run(store, studio)


def test_a_small_project_may_lose_some_without_asking(store: Store) -> None:
    studio = FakeStudio(6)
    connected(store, studio)
    numbers = {task: studio.annotate(task, "A") for task in studio.data}
    run(store, studio)
    for task in list(numbers)[:4]:
        studio.delete(task, numbers[task])
    run(store, studio)
    assert labelled(store) == 2


@pytest.mark.parametrize("what", ["created_at", "url"])
def test_a_restored_backup_or_another_server_changes_nothing(store: Store, what: str) -> None:
    studio_of_labelled_tasks(store, 10)
    other = FakeStudio(2)
    setattr(other, what, "http://elsewhere.test")
    with pytest.raises(OtherProject):
        run(store, other, accept_loss=True)
    assert len(said(store)) == 10


def test_a_listing_that_breaks_off_changes_nothing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    studio = studio_of_labelled_tasks(store, 10)
    whole = studio.tasks

    def half(project_id: int, *, since: str = "") -> Any:
        yield from itertools.islice(whole(project_id, since=since), 4)
        raise LabelStudioError("half a page")

    monkeypatch.setattr(studio, "tasks", half)
    with pytest.raises(LabelStudioError):
        run(store, studio, full=True, accept_loss=True)
    assert len(said(store)) == 10


def test_a_task_that_one_listing_left_out_is_asked_for_by_name(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    studio = FakeStudio(10)
    connected(store, studio)
    run(store, studio)
    whole = studio.tasks
    monkeypatch.setattr(studio, "tasks", lambda p, since="": itertools.islice(whole(p, since=since), 4))
    assert run(store, studio, full=True).deleted_tasks == 0
    assert len(tasks.every(store, P)) == 10


def test_a_config_change_that_was_killed_is_seen_again(store: Store) -> None:
    studio = studio_of_labelled_tasks(store, 6)
    studio.label_config = CONFIG.replace('"$text"', '"$other"').replace('value="A"', 'value="Alpha" alias="A"')
    for task in studio.data:
        studio.data[task] = {"text": "old", "other": f"new {task}"}
    studio.die_after = 8
    with pytest.raises(KeyboardInterrupt):
        run(store, studio)
    studio.die_after = None
    report = run(store, studio)
    assert any("other" in line for line in report.lines)
    assert {task.text for task in tasks.every(store, P)} == {f"new {task}" for task in studio.data}
    assert labelled(store) == 6  # the alias is what was stored all along


def test_a_label_that_went_takes_its_labels_only_after_a_word(store: Store) -> None:
    studio = studio_of_labelled_tasks(store, 10)
    studio.label_config = CONFIG.replace('value="A"', 'value="D"')
    with pytest.raises(LabelsWouldVanish):
        run(store, studio)
    report = run(store, studio, accept_loss=True)
    assert labelled(store) == 0
    assert any("A to D" in line for line in report.lines)
    assert all("not (any more) a label" in row.problem for row in labels.every(store, P))


def test_an_unusable_config_is_told_and_nothing_is_lost(store: Store) -> None:
    studio = studio_of_labelled_tasks(store, 5)
    studio.label_config = CONFIG.replace("toName", 'perRegion="true" toName')
    with pytest.raises(ConfigError, match="perregion"):
        run(store, studio)
    assert "perregion" in projects.get(store, P).attention
    assert len(said(store)) == 5


def test_provenance_is_never_lowered(store: Store) -> None:
    studio = FakeStudio(3)
    connected(store, studio)
    first, second, third = sorted(studio.data)
    accepted = studio.annotate(first, "A", parent=studio.predict(first, "A"))
    edited = studio.annotate(second, "B", parent=studio.predict(second, "A"))
    scratch = studio.annotate(third, "C")
    run(store, studio)
    for number in (accepted, edited):  # the version is deleted: Label Studio forgets the parent and we saw it before
        row = studio.every()[number]
        row.update(parent_prediction=None, prediction={}, updated_at=studio.tick())
        studio.stamps[row["task"]] = studio.tick()
    studio.predictions.clear()
    run(store, studio)
    how = {row.annotation_id: row.provenance for row in labels.every(store, P)}
    assert how == {accepted: Provenance.ACCEPTED, edited: Provenance.EDITED, scratch: Provenance.FROM_SCRATCH}
    studio.edit(first, accepted, "C")
    run(store, studio)
    assert {row.annotation_id: row.provenance for row in labels.every(store, P)}[accepted] is Provenance.EDITED
    studio.edit(first, accepted, "A")  # back to what was shown: a person has thought about it all the same
    run(store, studio)
    assert {row.annotation_id: row.provenance for row in labels.every(store, P)}[accepted] is Provenance.EDITED


def test_a_skip_that_becomes_a_label_is_judged_as_that_label(store: Store) -> None:
    studio = FakeStudio(1)
    connected(store, studio)
    task = min(studio.data)
    number = studio.annotate(task, None, parent=studio.predict(task, "A"))
    run(store, studio)
    studio.edit(task, number, "A")
    run(store, studio)
    assert [(row.label, row.provenance) for row in labels.every(store, P)] == [("A", Provenance.ACCEPTED)]


def test_tombstones_keep_what_was_deleted(store: Store, tmp_path: Path) -> None:
    import sqlalchemy as sa

    studio = FakeStudio(8)
    connected(store, studio)
    number = studio.annotate(min(studio.data), "A")
    run(store, studio)
    studio.delete_task(min(studio.data))
    run(store, studio)
    with store.read() as connection:
        row = connection.execute(
            sa.text("select label, deleted_at from annotations where annotation_id = :n"), {"n": number}
        ).one()
    assert row.label == "A"
    assert row.deleted_at


STARS = '<Rating name="stars" toName="text" maxRating="3"/></View>'


def test_a_second_control_keeps_what_is_known_of_the_first(store: Store) -> None:
    studio = FakeStudio(10)
    connected(store, studio)
    for task in studio.data:
        studio.annotate(task, "A", parent=studio.predict(task, "A"))
    run(store, studio)
    projects.change(store, P, options={"shots": [["text 1", "A"]]})
    before = labels.every(store, P)
    studio.label_config = CONFIG.replace("</View>", STARS)
    for rows in studio.annotations_of.values():  # what was shown is deleted meanwhile
        for row in rows.values():
            row |= {"parent_prediction": None, "prediction": {}}
    report = run(store, studio)
    assert report.lines[:2] == ("the label config has changed", "new: stars; the LLMs are asked about it")
    rows = labels.every(store, P)
    assert [replace(row, decision="") for row in rows if row.decision == "label"] == before
    assert {row.label for row in rows if row.decision == "stars"} == {None}
    assert labelled(store) == 10
    assert projects.get(store, P).options["shots"] == [["text 1", "A", "label"]]
    studio.label_config = CONFIG
    run(store, studio)
    assert labels.every(store, P) == before


def test_nothing_is_renamed_before_a_persons_word(store: Store) -> None:
    studio = studio_of_labelled_tasks(store, 10)
    before = labels.every(store, P)
    studio.label_config = CONFIG.replace('value="A"', 'value="D"').replace("</View>", STARS)
    with pytest.raises(LabelsWouldVanish, match="10 of 10"):
        run(store, studio)
    assert labels.every(store, P) == before
    assert projects.get(store, P).decision.labels.names == ("A", "B", "C")
    run(store, studio, accept_loss=True)
    assert labelled(store) == 0


def test_a_control_that_is_gone_takes_no_label_of_another(store: Store) -> None:
    studio = FakeStudio(10)
    studio.label_config = CONFIG.replace("</View>", STARS)
    connected(store, studio)
    projects.change(store, P, label_config=CONFIG)  # as of before: the first pass sees both
    for task in studio.data:
        studio.annotate(task, "A")
    run(store, studio)
    assert {row.decision for row in labels.every(store, P)} == {"label", "stars"}
    studio.label_config = CONFIG
    report = run(store, studio)
    assert labelled(store) == 10
    assert "gone: stars; what people said of it is left out of training" in report.lines
    assert {row.decision for row in labels.every(store, P)} == {""}


@pytest.mark.parametrize("database_url", ["sqlite", "postgresql"], indirect=True)
def test_half_a_surrogate_pair_stops_no_intake(database_url: str, tmp_path: Path) -> None:
    """JSON may hold one as an escape; no database takes it."""
    opened, studio = Store(database_url or f"sqlite:///{tmp_path / 'mollm.db'}"), FakeStudio(2)
    connected(opened, studio)
    odd = studio.add_task("half \ud83d a smile, a whole one \U0001f600, the other \udc00 half \x00")
    number = studio.annotate(odd, "\ud800")
    studio.annotate(next(iter(studio.data)), "A", parent=studio.predict(next(iter(studio.data)), "\udfff"))
    run(opened, studio)
    rows = {task.task_id: task.text for task in tasks.every(opened, P)}
    assert rows[odd] == "half \ufffd a smile, a whole one \U0001f600, the other \ufffd half "
    assert len(rows) == 3
    assert {row.annotation_id: row.label for row in labels.every(opened, P)}[number] is None
    run(opened, studio)
    opened.close()
