"""`mollm accept`: an audit is decided once, as it was planned, and what is accepted is nobody's label."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import redis
from typer.testing import CliRunner

from mollm.records import LabelSet, Provenance
from mollm_backend import jobs
from mollm_backend.cli import app as command_line
from mollm_backend.jobs import auditing, certified, certifying, drifting, due
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.labelstudio import accepting
from mollm_backend.settings import Settings
from mollm_backend.store import Store, audits, certificates, events, labels, projects, tasks, versions
from mollm_backend.store.labels import Annotation

from .accepting import TASKS, annotation, answer, audited, last_status, predicted, run
from .conftest import CAT_DOG


def test_it_is_decided_once_and_accepts_what_nobody_labelled(store: Store, commands: None) -> None:
    project = predicted(store)
    audit = audited(store, project)
    done = run("--yes", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    found = certificates.newest(store, 7)
    assert found is not None
    assert (said["id"], said["status"], said["attempt"]) == ("certificate-1", "granted", 1)
    rest = audits.frozen_of(store, 7, audit.id)
    asked = {row.task_id for row in audits.tasks_of(store, 7, audit.id)}
    rows = certificates.rows(store, 7, found.id, certificates.WAITING)
    assert {row.task_id for row in rows} == set(rest.task_ids[: found.tasks].tolist()) - asked
    assert len(rows) == found.accepted == found.tasks - found.audits > 200
    said_then = {int(task): rest.labels_at(n) for n, task in enumerate(rest.task_ids)}
    assert all(row.labels == said_then[row.task_id] for row in rows)
    assert last_status(store) == audits.DECIDED
    again = json.loads(run("--yes", "--json").stdout)
    assert again == said
    assert len(certificates.every(store, 7)) == 1
    words = " ".join(said["lines"])
    assert f"With 95 % confidence over the draw of the audit, at least 90 % of these {found.accepted:,} tasks" in words
    assert "no other version (v1)" in words
    assert "attempt 1 of this project" in words


def test_the_report_repeats_it_with_what_it_covers_no_more(store: Store, commands: None) -> None:
    audited(store, predicted(store))
    run("--yes")
    row = certificates.rows(store, 7, "certificate-1", certificates.WAITING)[0]
    tasks.upsert(store, 7, [tasks.Task(row.task_id, "new", "another text")])
    (told,) = json.loads(CliRunner().invoke(command_line, ["report", "7", "--json"]).stdout)["projects"]
    assert told["certificate"]["status"] == "granted"
    assert told["certificate"]["lines"][-1].startswith("certificate-1 does not cover 1 of its tasks any more")
    assert "certificate-1 (audit-1), granted:" in CliRunner().invoke(command_line, ["report", "7"]).output


def test_two_at_once_decide_once(store: Store) -> None:
    project = predicted(store)
    audit = audited(store, project)
    look = certifying.ready(store, project, audit, now=False)
    first, second = certifying.decide(store, project, look), certifying.decide(store, project, look)
    assert first == second
    assert certificates.states(store, 7, first.id) == {"waiting": first.accepted}


def test_a_refusal_says_what_would_have_sufficed_and_the_next_is_a_second_attempt(store: Store, commands: None) -> None:
    project = predicted(store, wrong=0.08)
    audited(store, project, labels=60)
    done = run("--yes")
    assert done.exit_code == 1
    assert "Nothing is certified" in done.output
    assert "audits are wrong" in done.output
    assert "would have certified a target of 0." in done.output.replace("\n", " ")
    assert certificates.unfinished(store, 7) == []
    audited(store, projects.get(store, 7), labels=100, target=0.8, seed=6)
    done = run("--yes")
    assert "attempt 2 of this project" in done.output
    assert "Over 2 attempts the chance of any false certificate is at most 0.1" in done.output


REFUSED = [
    (["--target", "1.0"], "299 audits without an error would suffice"),
    (["--confidence", "1.5"], "choose above 0 and below 1"),
    (["--target", "0.8"], "planned for --target 0.9, not 0.8: what is promised cannot be chosen after"),
    (["--confidence", "0.9"], "planned for --confidence 0.95, not 0.9"),
    (["--by-class"], "planned for --by-class False, not True"),
    ([], "100 of 120 answered: 20 are missing. Nothing was decided"),
    (["--now"], "No earlier look is planned: 20 are missing"),
]


def test_what_was_not_planned_is_refused(store: Store, commands: None) -> None:
    audited(store, predicted(store), 100)
    for words, reason in REFUSED:
        done = run("--yes", *words)
        assert done.exit_code == 1, words
        assert reason in str(done.exception)
        assert certificates.every(store, 7) == []


def test_without_a_fit_audit_it_says_which_command_plans_one(store: Store, commands: None) -> None:
    project = predicted(store)
    plan = "`mollm audit 7 --labels 300 --target .95` plans one"
    assert plan in str(run("--yes").exception)
    made = audited(store, project, target=None, labels=30)
    assert f"planned for an estimate, without a target: {plan}" in str(run("--yes").exception)
    audits.withdraw(store, 7, made.id, "cancelled")
    assert f"{plan}" in str(run("--yes").exception)
    audited(store, project)
    asked = [replace(CAT_DOG[0], labels=LabelSet(("cat", "dog", "fish"))).as_json()]
    projects.change(store, 7, decisions=asked)
    assert "asks for something else than when audit-2 was made" in str(run("--yes").exception)


def test_a_dry_run_looks_at_no_answer(store: Store, commands: None) -> None:
    audited(store, predicted(store))
    done = run("--dry-run")
    assert done.exit_code == 0
    assert "look 1 of 1 would read 120 answers, at the target 0.9. Nothing was decided." in done.output.replace(
        "\n", " "
    )
    assert certificates.every(store, 7) == []


def test_an_early_look_reads_its_planned_answers_alone_at_its_part_of_the_level(store: Store, commands: None) -> None:
    project = predicted(store)
    audit = audited(store, project, 50, looks=2, labels=200)
    assert audit.parts[0].alpha == pytest.approx(0.025)
    assert "The next planned look is at 100 in turn: 50 are missing" in str(run("--now", "--yes").exception)
    answer(store, audit, 120)
    found = certifying.ready(store, project, audit, now=True)
    assert (found.number, found.count, found.last) == (1, 100, False)
    done = run("--now", "--yes")
    assert done.exit_code == 0, done.output
    assert last_status(store) == audits.DECIDED
    granted = certificates.newest(store, 7)
    assert granted is not None
    assert granted.look == 1
    answered = {row.task_id for row in audits.tasks_of(store, 7, audit.id)[:120]}
    rows = {row.task_id for row in certificates.rows(store, 7, granted.id, certificates.WAITING)}
    assert not rows & answered


def test_a_refused_early_look_leaves_the_last_one(store: Store, commands: None) -> None:
    project = predicted(store, wrong=0.3)
    audit = audited(store, project, 120, looks=2, labels=200, target=0.65)
    done = run("--now", "--yes")
    assert "Nothing is certified" in done.output, done.exception
    assert last_status(store) == audits.OPEN
    assert "No earlier look is planned" in str(run("--now", "--yes").exception)
    answer(store, audit)
    run("--yes")
    looks = certificates.every(store, 7)
    assert [(row.look, row.attempt) for row in looks] == [(1, 1), (2, 1)]
    assert last_status(store) == audits.DECIDED


def test_a_certificate_for_each_class(store: Store, commands: None) -> None:
    project = predicted(store, wrong=0.01, dogs=0.04)  # a quarter of the dogs is called a cat
    audited(store, project, by_class=True, labels=200)
    done = run("--yes", "--by-class", "--json")
    said = json.loads(done.stdout)
    parts = {row["label"]: row for row in said["by_class"]}
    assert parts["dog"]["tasks"] > 0
    assert parts["cat"]["tasks"] < 0.6 * parts["cat"]["of"]
    rows = certificates.rows(store, 7, said["id"], certificates.WAITING)
    assert sum(row.labels[""] == "dog" for row in rows) == parts["dog"]["unlabelled"]
    assert any(line.startswith("dog: at least 90 % of") for line in said["lines"])


def test_what_people_label_or_edit_meanwhile_is_not_accepted(store: Store) -> None:
    project = predicted(store)
    audit = audited(store, project)
    rest = audits.frozen_of(store, 7, audit.id)
    asked = {row.task_id for row in audits.tasks_of(store, 7, audit.id)}
    first, second, third = [int(task) for task in rest.task_ids if int(task) not in asked][:3]
    labels.upsert(store, 7, [annotation(first, "cat")])
    tasks.upsert(store, 7, [replace(tasks.some(store, 7, [second])[second], text="another text", data_hash="new")])
    tasks.upsert(store, 7, [tasks.Task(second, "new", "another text")])
    tasks.tombstone(store, 7, [third])
    made = certifying.decide(store, project, certifying.ready(store, project, audit, now=False))
    accepted = {row.task_id for row in certificates.rows(store, 7, made.id, certificates.WAITING)}
    assert not accepted & {first, second, third}
    assert made.tasks - made.audits - made.accepted == 3
    assert "1 of the tasks were labelled meanwhile." in made.note
    assert "2 of the tasks were edited or deleted and are left to people." in made.note


def test_it_says_what_it_does_not_cover_any_more(store: Store) -> None:
    project = predicted(store)
    made = certifying.decide(store, project, certifying.ready(store, project, audited(store, project), now=False))
    assert certified.standing(store, project) == []
    row = certificates.rows(store, 7, made.id, certificates.WAITING)[0]
    tasks.upsert(store, 7, [tasks.Task(row.task_id, "new", "another text")])
    predicted_again = replace(projects.get(store, 7), published_version="v2")
    asked = replace(predicted_again, decisions=(replace(CAT_DOG[0], labels=LabelSet(("cat", "dog", "fish"))),))
    lines = certified.standing(store, asked)
    assert lines[0] == "certificate-1 does not cover 1 of its tasks any more: edited or deleted since."
    assert lines[1] == "certificate-1 is of v1; it covers nothing of v2."
    assert "the label config asks for other labels now" in lines[2]


def certified_row(task_id: int, number: int, label: str = "cat") -> Annotation:
    return annotation(
        task_id, label, annotation_id=number, provenance=Provenance.CERTIFIED, user_id=9, parent_prediction=number,
        shown_version="mollm-accepted+certificate-1",
    )  # fmt: skip


def test_a_certified_label_is_nobodys(store: Store, commands: None) -> None:
    predicted(store)
    before = labels.totals(store, 7)
    labels.upsert(store, 7, [certified_row(5, 1), annotation(6, "dog")])
    rows = labels.every(store, 7)
    assert [row.item for row in labels.human_labels(rows)] == ["6"]
    assert labels.count(store, 7) == 1
    assert labels.totals(store, 7)[:2] == (before[0] + 2, 1)
    assert labels.how(store, 7) == {"certified": 1, "from_scratch": 1}
    assert labels.closed_tasks(rows) == {5, 6}
    assert 5 not in versions.least_certain(store, 7, "v1", "", TASKS)
    done = CliRunner().invoke(command_line, ["export", "7", "--format", "jsonl"])
    told = {row["task"]: row for row in map(json.loads, done.output.splitlines())}
    assert (told[5]["label"], told[5]["probability"], told[5]["provenance"]) == ("cat", None, "certified")
    assert told[6]["provenance"] == "from_scratch"
    assert told[7]["provenance"] == "mixture"
    labels.upsert(store, 7, [replace(certified_row(5, 1, "dog"), provenance=Provenance.EDITED)])
    assert {row.item: row.label for row in labels.human_labels(labels.every(store, 7))} == {"5": "dog", "6": "dog"}


def test_states_follow_what_the_annotations_say(store: Store) -> None:
    project = predicted(store)
    made = certifying.decide(store, project, certifying.ready(store, project, audited(store, project), now=False))

    def states() -> dict[str, int]:
        certificates.settle(store, 7)
        return {name: n for name, n in certificates.states(store, 7, made.id).items() if name != "waiting"}

    ids = [row.task_id for row in certificates.rows(store, 7, made.id, certificates.WAITING)]
    assert states() == {}
    labels.upsert(store, 7, [certified_row(task, task) for task in ids[:5]])
    labels.upsert(store, 7, [annotation(ids[5], "cat")])
    assert states() == {"written": 5, "kept": 1}
    assert certificates.rows(store, 7, made.id, certificates.WRITTEN)[0].annotation_id == ids[0]
    labels.upsert(store, 7, [replace(certified_row(ids[0], ids[0]), provenance=Provenance.ACCEPTED)])
    labels.tombstone(store, 7, [ids[1]])
    assert states() == {"written": 3, "kept": 2, "undone": 1}
    certificates.undo(store, 7, made.id)
    assert "waiting" not in certificates.states(store, 7, made.id)
    labels.upsert(store, 7, [certified_row(ids[7], ids[7])])  # a writer that was under way
    assert certificates.states(store, 7, made.id)["undone"] == len(ids) - 5
    assert states()["written"] == 4
    assert [row.id for row in certificates.unfinished(store, 7)] == [made.id]


def test_writing_is_due_until_it_is_done(store: Store, settings: Settings, connection: redis.Redis) -> None:
    project = predicted(store)
    runtime = Runtime(settings, store, connection)

    def wanted() -> bool:
        found = due.progress.count(store, project)
        return ("reconcile", "accept", (7,)) in list(due._lacks(runtime, project, found, False))

    assert not wanted()
    made = certifying.decide(store, project, certifying.ready(store, project, audited(store, project), now=False))
    assert wanted()
    waiting = [row.task_id for row in certificates.rows(store, 7, made.id, certificates.WAITING)]
    certificates.mark(store, 7, made.id, waiting, certificates.WRITTEN)
    assert not wanted()
    certificates.undo(store, 7, made.id)
    assert wanted()


def test_the_job_writes_or_takes_back_and_says_so(
    store: Store, settings: Settings, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, runtime = predicted(store), Runtime(settings, store, connection)
    made = certifying.decide(store, project, certifying.ready(store, project, audited(store, project), now=False))
    monkeypatch.setattr(runtime, "client", lambda: None)
    for name in ("write", "take_back"):
        monkeypatch.setattr(accepting, name, lambda *what, name=name: [f"{name} {what[3].id}"])
    jobs.install(runtime)
    jobs.accept(7)
    certificates.mark(store, 7, made.id, [certificates.rows(store, 7, made.id, "waiting")[0].task_id], "written")
    certificates.undo(store, 7, made.id)
    jobs.accept(7)
    assert [event.line for event in events.newest(store, 2)] == ["take_back certificate-1", "write certificate-1"]


def test_undo_says_what_it_takes_back(store: Store, commands: None) -> None:
    assert "has no certificate: there is nothing to take back" in str(run("--undo", "--yes").exception)
    audited(store, predicted(store))
    run("--yes")
    assert "wait to be written" in run("--undo", "--dry-run").output
    done = run("--undo", "--yes", "--json")
    said = json.loads(done.stdout)
    assert (said["id"], said["status"]) == ("certificate-1", "undone")
    assert set(said["states"]) == {"undone"}
    assert json.loads(run("--undo", "--yes", "--json").stdout)["id"] == "certificate-1"


@pytest.mark.parametrize(("wrong", "status"), [(0, certificates.GRANTED), (40, certificates.WITHDRAWN)])
def test_random_tasks_that_are_wrong_withdraw_a_certificate_aloud(
    store: Store, commands: None, settings: Settings, wrong: int, status: str
) -> None:
    project = predicted(store)
    audited(store, project)
    assert run("--yes").exit_code == 0
    (certificate,) = certificates.every(store, 7)
    closed = {row.task_id for row in labels.every(store, 7)}
    projects.change(store, 7, options={"audit_share": 0.5})
    auditing.draw_standing(store, projects.get(store, 7), 40)
    drawn = [row for row in audits.tasks_of(store, 7, "audit-2") if row.task_id not in closed]
    other = {"cat": "dog", "dog": "cat"}
    said = [other[row.predicted[""]] if n < wrong else row.predicted[""] for n, row in enumerate(drawn)]
    labels.upsert(store, 7, [annotation(row.task_id, label) for row, label in zip(drawn, said, strict=True)])
    drifting.check(store, projects.get(store, 7))
    (after,) = certificates.every(store, 7)
    assert after.status == status
    loud = [event.line for event in events.newest(store, 20) if event.kind == "problem"]
    assert bool(loud) == (status == certificates.WITHDRAWN)
    if loud:
        assert f"{certificate.id} is withdrawn" in loud[0]
        assert certificates.unfinished(store, 7) == []  # nothing more of it is written
        assert run("--undo", "--yes").exit_code == 0
        assert certificates.every(store, 7)[0].status == certificates.UNDONE


@pytest.mark.parametrize(("drifted", "status"), [("", certificates.GRANTED), ("dog", certificates.WITHDRAWN)])
def test_one_class_that_drifts_withdraws_a_certificate_by_class(
    store: Store, commands: None, settings: Settings, drifted: str, status: str
) -> None:
    project = predicted(store)
    audited(store, project, labels=200, by_class=True)
    assert run("--by-class", "--yes").exit_code == 0
    (certificate,) = certificates.every(store, 7)
    assert sum(1 for row in certificate.by_class if row["tasks"]) == 2
    projects.change(store, 7, options={"audit_share": 0.5})
    auditing.draw_standing(store, projects.get(store, 7), 60)
    drawn = audits.tasks_of(store, 7, "audit-2")
    other = {"cat": "dog", "dog": "cat"}
    said = [(row.task_id, row.predicted[""]) for row in drawn]
    rows = [annotation(task, other[label] if label == drifted else label) for task, label in said]
    labels.upsert(store, 7, rows)
    drifting.check(store, projects.get(store, 7))
    assert certificates.every(store, 7)[0].status == status
    loud = [event.line for event in events.newest(store, 20) if event.kind == "problem"]
    assert bool(loud) == bool(drifted)
    if loud:
        assert "drawn at random since, predicted dog, as confident as those that it covers" in loud[0]
