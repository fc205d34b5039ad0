"""`mollm accept` after a whole audit: all open tasks or none, as soon as the answers suffice."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from mollm.acceptance.bet import FLOOR, STAKE
from mollm.acceptance.certificate import share_of
from mollm.acceptance.plan import Goal
from mollm.errors import InputError
from mollm_backend.cli import app as command_line
from mollm_backend.jobs import acting, audit_outlook
from mollm_backend.jobs.audit_outlook import Wanted
from mollm_backend.jobs.auditing import bet_of
from mollm_backend.store import Store, audits, certificates, labels
from mollm_backend.work import finishing
from mollm_backend.work.actions import COMMAND_LINE, Asked

from .accepting import TASKS, annotation, answer, audited, last_status, predicted, run, truth


def test_a_whole_audit_is_decided_as_soon_as_its_answers_suffice(store: Store, commands: None) -> None:
    project = predicted(store)
    audit = audited(store, project, 40, whole=True, labels=200)
    assert [part.kind for part in audit.parts] == ["weighted"]
    drawn = audits.tasks_of(store, 7, audit.id)
    assert len({row.task_id for row in drawn}) == 200
    assert len({row.probability for row in drawn}) > 100  # the doubtful ones more often
    done = run("--yes")
    assert re.search(
        r"40 of 200 answered. \d of the first 40 are wrong: the evidence is [\d.]+ of 20", str(done.exception)
    )
    assert "Nothing was decided: ask again after more answers" in str(done.exception)
    assert certificates.every(store, 7) == []
    told = " ".join(CliRunner().invoke(command_line, ["audit", "7"]).output.split())
    assert re.search(r"At this pace it suffices after some \d+ more answers", told)
    answer(store, audit, 120)
    assert "It suffices: `mollm accept` certifies the rest" in " ".join(
        CliRunner().invoke(command_line, ["audit", "7"]).output.split()
    )
    done = run("--yes", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    assert (said["tasks"], said["status"]) == (TASKS, "granted")
    assert 40 < said["audits"] < 120
    rows = {row.task_id for row in certificates.rows(store, 7, said["id"], certificates.WAITING)}
    assert rows == {task + 1 for task in range(TASKS)} - {row.task_id for row in drawn[:120]}
    assert last_status(store) == audits.DECIDED
    assert json.loads(run("--yes", "--json").stdout) == said


def test_a_whole_audit_that_is_answered_in_vain_is_refused_and_measures_nothing(store: Store, commands: None) -> None:
    project = predicted(store, wrong=0.2)
    audit = audited(store, project, whole=True, labels=150)
    done = run("--yes")
    assert done.exit_code == 1
    assert "Nothing is certified" in done.output
    assert "of the first 150 are wrong: the evidence is" in " ".join(done.output.split())
    assert last_status(store) == audits.DECIDED
    assert audits.measuring(store, 7) is None
    assert audit_outlook.accuracy_of(store, 7, audit) is None


def test_an_open_audit_is_decided_as_it_was_drawn_whatever_a_later_release_bets(store: Store) -> None:
    (part,) = audited(store, predicted(store), whole=True, labels=200).parts
    assert (part.floor, part.stake) == (FLOOR, STAKE)
    before = replace(part, floor=0.5, stake=0.95)
    assert bet_of(before, 0.9).share(np.array([40])) == pytest.approx(0.95 / (TASKS / (0.5 * 40) - 1))
    assert bet_of(before, 0.9).share(np.array([40])) != bet_of(part, 0.9).share(np.array([40]))


@pytest.mark.parametrize("wanted", [{"target": 0.9}, {"target": None, "wrong": 40}])
def test_a_refused_one_promises_and_accepts_nothing(store: Store, commands: None, wanted: dict[str, Any]) -> None:
    audit = audited(store, predicted(store, wrong=0.2), whole=True, labels=150, **wanted)
    said = json.loads(run("--yes", "--json").stdout)
    assert (said["status"], said["target"], said["tasks"], said["accepted"]) == ("refused", audit.target, 0, 0)
    assert [row["unlabelled"] for row in said["by_class"]] == [0]
    assert f"to promise {100 * (audit.target or 0):g} % with" in " ".join(said["lines"])


def test_before_it_begins_it_promises_what_the_plan_promises(store: Store) -> None:
    project = predicted(store, wrong=0.05)
    labels.upsert(store, 7, [annotation(task + 1, truth(task + 1)) for task in range(200)])
    ahead = finishing.of(store, project, Goal(target=0.92)).finish
    assert ahead is not None
    assert (ahead.step, ahead.open) == ("audit", TASKS - 200)
    likely = audit_outlook.plan(
        store, project, Wanted(labels=ahead.audit.labels, whole=True, wrong=ahead.allowed)
    ).asked
    assert likely is not None
    assert likely.expected == pytest.approx(ahead.audit.expected, rel=0.05)  # they look at other numbers of answers
    assert 1 - likely.refused == pytest.approx(ahead.audit.chance, abs=0.01)


def test_a_share_that_follows_from_a_number_is_below_one_and_never_too_high() -> None:
    assert audit_outlook.share_without(0, 20_000) == 0.9999
    assert audit_outlook.share_without(1, 3) == 0.6666
    assert audit_outlook.share_without(4, 3) < 0


def test_a_number_that_may_be_wrong_is_promised_as_the_share_that_it_leaves(store: Store, commands: None) -> None:
    project = predicted(store)
    audit = audited(store, project, whole=True, labels=200, target=None, wrong=50)
    assert (audit.target, audit.parts[0].wrong) == (0.875, 50)  # of 400 at least
    done = run("--yes", "--json")
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)
    left = TASKS - said["audits"]
    assert said["audits"] < 150
    assert said["target"] == np.floor(1e4 * (1 - 50 / left)) / 1e4 > 0.875
    assert share_of(said["target"])(np.array(left)) == 50


def test_a_gap_in_the_answers_ends_what_a_whole_audit_reads(store: Store, commands: None) -> None:
    project = predicted(store)
    audit = audited(store, project, 0, whole=True, labels=200)
    rows = audits.tasks_of(store, 7, audit.id)
    labels.upsert(store, 7, [annotation(row.task_id, truth(row.task_id)) for row in [*rows[:5], *rows[6:150]]])
    assert "of the first 5 are wrong" in str(run("--yes").exception)
    assert certificates.every(store, 7) == []


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        ({"target": None}, "certifies all open tasks at a target"),
        ({"looks": 2}, "may be decided at any answer"),
        ({"by_class": True}, "has no classes"),
        ({"target": 0.99}, "will certify nothing at 0.99"),
        ({"wrong": 5}, "in place of --target"),
        ({"wrong": 5, "whole": False, "target": None}, "a --whole audit may leave wrong"),
        ({"wrong": 460, "target": None}, "Nothing is left to certify"),
    ],
)
def test_what_a_whole_audit_cannot_be_is_refused(store: Store, wanted: dict[str, Any], reason: str) -> None:
    project = predicted(store)
    with pytest.raises(InputError, match=reason):
        acting.draw(
            store, Asked(project.id, "audit", "150", COMMAND_LINE),
            Wanted(**({"labels": 150, "target": 0.9, "whole": True} | wanted)),
        )  # fmt: skip
