"""A project that asks for several decisions: each learns by itself, one version and one batch span them."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
import redis

from mollm import states
from mollm.records import Provenance
from mollm.sets import SetRule, micro_f1
from mollm_backend import jobs
from mollm_backend.cli import explain, export
from mollm_backend.jobs import due, predicting
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.labelstudio.controls.multiple import NONE
from mollm_backend.labelstudio.events import AskedTask
from mollm_backend.labelstudio.label_config import labels_of, parse
from mollm_backend.settings import Settings
from mollm_backend.store import Store, batches, labels, projects, signals, tasks, versions
from mollm_backend.store.decisions import Decision
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.signals import Cost, SignalRow
from mollm_backend.store.tasks import Task
from mollm_backend.view import project as view
from mollm_backend.view import render
from mollm_backend.web import lookup
from mollm_backend.work import progress, queues

NUMBER = 9
CONFIG = (
    '<View><Text name="text" value="$text"/><Choices name="animal" toName="text"><Choice value="cat"/>'
    '<Choice value="dog"/></Choices><Choices name="is" toName="text" choice="multiple"><Choice value="loud"/>'
    '<Choice value="big"/></Choices></View>'
)
DECISIONS = parse(CONFIG)
ANIMAL_AND_LIST = ("animal", "is")  # one question each
SKILL = {"tiny": 0.75, "small": 0.9}
N = 40


def truth(key: str, number: int) -> str:
    """Odd tasks are cats, every third is loud, every second pair is big."""
    if key == "animal":
        return "cat" if number % 2 else "dog"
    return "applies" if (number % 3 == 0 if key == "is/loud" else number % 4 < 2) else "does not apply"


def member(name: str, decision: Decision) -> PanelMember:
    """The decisions of the list share their answers."""
    return PanelMember(name, f"{name} on {decision.control}", decision.key)


@pytest.fixture
def runtime(settings: Settings, store: Store, connection: redis.Redis) -> Runtime:
    panel = tuple(member(name, decision) for decision in DECISIONS for name in SKILL)
    made = Project(
        NUMBER, "http://ls", "Animals", "2026", CONFIG, DECISIONS, panel, reconciled_at="2999-01-01T00:00:00+00:00"
    )
    projects.save(store, made)
    tasks.upsert(store, NUMBER, [Task(n, f"hash-{n}", f"animal number {n}") for n in range(1, N + 1)])
    for name in ANIMAL_AND_LIST:
        read(store, name)
    opened = Runtime(settings, store, connection)
    jobs.install(opened)
    return opened


def read(store: Store, control: str) -> None:
    """Both annotators answer what a control asks, each with its own skill: one of the labels that are right there."""
    rng = np.random.default_rng(ANIMAL_AND_LIST.index(control))
    rows, mine = tasks.every(store, NUMBER), [row for row in DECISIONS if row.control == control]
    for name, skill in SKILL.items():
        answers = []
        for task in rows:
            right = rightly(mine, task.task_id)
            probs = np.full(mine[0].asked.C, 0.2)
            probs[right if rng.random() < skill else [c for c in range(len(probs)) if c not in right]] = 0.8
            answers.append(SignalRow(task.item.text_key, probs / probs.sum(), probs / probs.sum()))
        signals.save(store, member(name, mine[0]), NUMBER, answers, Cost(calls=1, texts=len(rows)))


def rightly(decisions: Sequence[Decision], number: int) -> list[int]:
    """The places of what is right of the task, among what is asked."""
    asked = decisions[0].asked
    if decisions[0].listed is None:
        return [asked.index(truth(decisions[0].key, number))]
    chosen = [row.part for row in decisions if truth(row.key, number) == "applies"]
    return [asked.index(name) for name in chosen or [NONE]]


def project(store: Store) -> Project:
    return projects.get(store, NUMBER)


def annotate(store: Store, *numbers: int, wrong: str = "") -> None:
    """A person labels tasks in all decisions; in the decision `wrong`, wrongly."""
    rows = []
    for n in numbers:
        for decision in DECISIONS:
            label = truth(decision.key, n)
            other = next(name for name in decision.labels.names if name != label)
            said = other if decision.key == wrong else label
            rows.append(Annotation(100 + n, n, 1, said, False, Provenance.FROM_SCRATCH, decision=decision.key))
    labels.upsert(store, NUMBER, rows)


def served(store: Store, number: int) -> Mapping[str, str | None]:
    found = lookup.answers(store, project(store), [AskedTask(number, {"text": f"animal number {number}"})])[0]
    return {key: label for key, (label, _) in labels_of(found["result"], DECISIONS).items()}


def test_one_version_says_something_of_every_decision(runtime: Runtime) -> None:
    store = runtime.store
    jobs.train(NUMBER)
    version = versions.find(store, NUMBER, project(store).published_version)
    assert version is not None
    assert set(version.facts["decisions"]) == {"animal", "is/loud", "is/big"}
    said = versions.of_tasks(store, NUMBER, version.id)
    assert len(said) == N
    for decision in DECISIONS:
        right = sum(rows[decision.key].label == truth(decision.key, task) for task, rows in said.items())
        assert right >= 30  # the better of the two says 36 in expectation
    names = set(states.load(runtime.settings.versions_dir / str(NUMBER) / version.id))
    assert {"0.mixture", "1.mixture", "2.mixture"} <= names


def test_the_batch_holds_each_task_once_with_the_decision_that_picked_it(runtime: Runtime) -> None:
    jobs.train(NUMBER)
    batch = batches.entries(runtime.store, NUMBER, project(runtime.store).batch_version or "")
    assert [entry.rank for entry in batch] == list(range(N))
    assert len({entry.task_id for entry in batch}) == N
    assert [entry.reason.split(":")[0] for entry in batch[:4]] == ["animal", "is/loud", "is/big", "animal"]
    assert all(entry.label.startswith("animal: ") for entry in batch)


def test_what_is_served_holds_every_decisions_label(runtime: Runtime) -> None:
    assert lookup.answers(runtime.store, project(runtime.store), [AskedTask(1, {"text": "animal number 1"})]) == [{}]
    jobs.train(NUMBER)
    version = project(runtime.store).published_version or ""
    for number, rows in versions.of_tasks(runtime.store, NUMBER, version).items():
        assert served(runtime.store, number) == {key: row.label for key, row in rows.items()}


def test_a_persons_annotation_counts_once_and_teaches_every_decision(runtime: Runtime) -> None:
    store = runtime.store
    jobs.train(NUMBER)
    annotate(store, *range(1, 10))
    assert due.training_reason(store, project(store), 10) is None
    annotate(store, 10)
    assert due.training_reason(store, project(store), 10) == "10 human labels are new or changed"
    queues.request_training(runtime.connection, NUMBER)
    jobs.train(NUMBER)
    newest = versions.newest(store, NUMBER)
    assert newest is not None
    assert (newest.human_labels, newest.status) == (10, "published")
    assert all(len(facts["losses"]) == 10 for facts in newest.facts["decisions"].values())
    assert set(newest.facts["scores"]) == {"accuracy", "log_loss", "ece"}
    assert {entry.task_id for entry in batches.entries(store, NUMBER, project(store).batch_version or "")} == set(
        range(11, N + 1)
    )


def test_a_version_that_is_worse_in_one_decision_is_refused_and_that_one_named(runtime: Runtime) -> None:
    store = runtime.store
    annotate(store, *range(1, 36))
    jobs.train(NUMBER)
    good = project(store).published_version
    facts = versions.find(store, NUMBER, good).facts  # type: ignore[union-attr]
    better = {
        key: loss - 5.0 - 0.01 * n for n, (key, loss) in enumerate(facts["decisions"]["is/big"]["losses"].items())
    }
    facts["decisions"]["is/big"]["losses"] = better
    row = versions.newest(store, NUMBER)
    assert row is not None
    versions.save(store, NUMBER, versions.Version(row.id, row.round, "published", row.human_labels, facts),
                  [one for rows in versions.of_tasks(store, NUMBER, row.id).values()
                   for one in rows.values()])  # fmt: skip
    annotate(store, 36, 37)
    queues.request_training(runtime.connection, NUMBER)
    jobs.train(NUMBER)
    newest = versions.newest(store, NUMBER)
    assert newest is not None
    assert newest.status == "refused"
    assert newest.facts["gate"].startswith("refused: is/big refused: significantly worse")
    assert project(store).published_version == good


def test_a_new_decision_leaves_what_is_known_of_the_others(runtime: Runtime) -> None:
    store = runtime.store
    with store.write() as opened:
        opened.exec_driver_sql("DELETE FROM signals WHERE fingerprint LIKE '% on is'")
    jobs.train(NUMBER)  # the panel has not read that one yet: the others need not wait for a request
    assert versions.newest(store, NUMBER) is None
    for name in SKILL:
        signals.mark_absent(store, f"{name} on is", "away")
    jobs.train(NUMBER)
    newest = versions.newest(store, NUMBER)
    assert newest is not None
    assert set(newest.facts["decisions"]) == {"animal"}
    shown = lookup.answers(store, project(store), [AskedTask(1, {"text": "animal number 1"})])[0]["result"]
    assert [part["from_name"] for part in shown] == ["animal"]  # a control is shown whole or not at all
    read(store, "is")
    jobs.train(NUMBER)
    newest = versions.newest(store, NUMBER)
    assert newest is not None
    assert set(newest.facts["decisions"]) == {"animal", "is/loud", "is/big"}


def test_a_batch_that_runs_dry_is_lengthened_with_all_decisions(runtime: Runtime) -> None:
    store = runtime.store
    projects.change(store, NUMBER, options={"batch_size": 3, "loop": {"reserve": 0}})
    jobs.train(NUMBER)
    now = project(store)
    entries = batches.entries(store, NUMBER, now.batch_version or "")
    assert len(entries) == 3
    batches.mark_published(store, NUMBER, now.batch_version or "", [entry.task_id for entry in entries])
    annotate(store, *(entry.task_id for entry in entries))
    jobs._refill(runtime, now)
    longer = batches.entries(store, NUMBER, now.batch_version or "")
    assert len(longer) == 6
    assert all("animal: " in entry.label and "is: " in entry.label for entry in longer)


def test_the_pages_and_commands_show_each_decision(
    runtime: Runtime, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = runtime.store
    annotate(store, 1, 2)
    jobs.train(NUMBER)
    for command in (explain, export):
        monkeypatch.setattr(command, "open_store", lambda: (runtime.settings, store))
    state = view.status(store, runtime.connection)
    shown = next(row for row in state["projects"] if row["id"] == NUMBER)
    assert (shown["human_labels"], shown["read"]) == (2, {"tiny": N, "small": N})
    assert shown["labels"] == ["animal: Choices, one of cat, dog",
                               "is: Choices (multiple), whether each applies of loud, big"]  # fmt: skip
    assert "animal" in render.project_page(shown, actions=None)
    capsys.readouterr()
    export.export(NUMBER, export.Format.CSV)
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert len(rows) == N
    assert list(rows[0]) == ["task", "text", "animal", "animal probability", "animal provenance", "is/loud",
                             "is/loud probability", "is/loud provenance", "is/big", "is/big probability",
                             "is/big provenance", "version"]  # fmt: skip
    assert (rows[0]["animal"], rows[0]["animal provenance"]) == ("cat", "from_scratch")
    assert {row["animal provenance"] for row in rows[2:]} == {"mixture"}
    explain.explain(NUMBER, 1, json_output=True)
    explained = json.loads(capsys.readouterr().out)
    assert set(explained["decisions"]["is/loud"]["panel"]) == {"tiny", "small"}
    assert [row["decision"] for row in explained["human"]] == ["animal", "is/big", "is/loud"]
    explain.explain(NUMBER, 1)
    assert "is/big: does not apply" in capsys.readouterr().out or truth("is/big", 1) == "applies"


@pytest.mark.parametrize("human", [0, 30])
def test_a_saved_version_says_the_same_after_a_restart(runtime: Runtime, human: int) -> None:
    annotate(runtime.store, *range(1, human + 1))
    jobs.train(NUMBER)
    store = Store(runtime.settings.store_url)
    again, now = Runtime(runtime.settings, store, runtime.connection), project(store)
    version = versions.find(store, NUMBER, now.published_version)
    assert version is not None
    saved = states.load(again.settings.versions_dir / str(NUMBER) / version.id)
    found = predicting.predictions_of(again, now, version, saved, tasks.every(store, NUMBER))
    stored = versions.of_tasks(store, NUMBER, version.id)
    assert len(found) == N * len(DECISIONS)
    for row in found:
        np.testing.assert_allclose(row.probs, stored[row.task_id][row.decision].probs, atol=1e-6)


def test_new_and_edited_tasks_are_predicted_in_every_decision(runtime: Runtime) -> None:
    store = runtime.store
    jobs.train(NUMBER)
    edited, batch = tasks.some(store, NUMBER, [3])[3], project(store).batch_version
    tasks.upsert(store, NUMBER, [Task(N + 1, "h", f"animal number {N + 1}"), replace(edited, text="animal number 33")])
    jobs.predict(NUMBER)
    assert N + 1 not in versions.of_tasks(store, NUMBER, project(store).published_version or "")
    for name in ANIMAL_AND_LIST:
        read(store, name)
    jobs.predict(NUMBER)
    said = versions.of_tasks(store, NUMBER, project(store).published_version or "")
    assert set(said[N + 1]) == {decision.key for decision in DECISIONS}
    assert served(store, N + 1) == {key: row.label for key, row in said[N + 1].items()}
    entries = {row.task_id: row for row in batches.entries(store, NUMBER, project(store).batch_version or "")}
    assert project(store).batch_version != batch
    assert entries[3].label == due.shown(project(store), said[3])[0]
    assert entries[3].label.startswith(f"animal: {said[3]['animal'].label}")


def test_row_keys_change_with_any_of_a_persons_labels(runtime: Runtime) -> None:
    store = runtime.store

    def keys() -> set[str]:
        rows = labels.every(store, NUMBER)
        return labels.row_keys(*(labels.human_labels(rows, decision.key) for decision in DECISIONS))

    annotate(store, 1, 2, 3)
    before = keys()
    assert len(before) == 3
    annotate(store, 2, wrong="is/big")
    assert len(before ^ keys()) == 2


def test_a_list_is_asked_about_once_for_all_its_labels(runtime: Runtime) -> None:
    store, now = runtime.store, runtime.refresh_panel(project(runtime.store))
    assert {row.decision for row in now.asked} == {"animal", "is/loud"}
    assert now.questions == 2
    assert len({row.fingerprint for row in now.panel if row.decision.startswith("is/")}) == len(now.asked) // 2
    owed = progress.count(store, now)
    assert owed.left_by_name(now) == {row.name: 2 * N for row in now.panel}  # of two questions, not of three decisions


def test_an_answer_to_a_list_is_read_as_yes_or_no_to_each_label(store: Store, runtime: Runtime) -> None:
    rows = tasks.every(store, NUMBER)
    loud, big = (signals.load(store, project(store), rows, decision) for decision in DECISIONS[1:])
    assert loud.labels == ("applies", "does not apply")
    np.testing.assert_allclose(loud.label_probs.sum(axis=2), 1, atol=1e-6)
    assert (loud.label_probs[..., 0] + big.label_probs[..., 0] <= 1 + 1e-6).all()  # the rest is "None of these"


def test_the_boxes_of_a_list_are_ticked_together(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    store, boxes = runtime.store, [row.key for row in DECISIONS[1:]]
    everything = SetRule(-99.0, -99.0)
    monkeypatch.setattr(SetRule, "before", lambda probs: everything)
    jobs.train(NUMBER)
    now = project(store)
    said = versions.of_tasks(store, NUMBER, now.published_version or "")
    assert {row[key].label for row in said.values() for key in boxes} == {"applies"}
    assert all(row[key].confidence == pytest.approx(row[key].probs[0]) for row in said.values() for key in boxes)
    assert {row["animal"].label for row in said.values()} == {"cat", "dog"}
    entries = batches.entries(store, NUMBER, now.batch_version or "")
    assert all(row.label.endswith("is: loud, big") for row in entries)
    tasks.upsert(store, NUMBER, [Task(N + 1, "h", f"animal number {N + 1}")])  # its rule is saved with the version
    for name in ANIMAL_AND_LIST:
        read(store, name)
    monkeypatch.undo()
    jobs.predict(NUMBER)
    fresh = versions.of_tasks(store, NUMBER, now.published_version or "", [N + 1])[N + 1]
    assert [fresh[key].label for key in boxes] == ["applies"] * 2
    found = versions.find(store, NUMBER, now.published_version)
    assert found is not None
    assert found.facts["notes"][-1] == "is: " + everything.line()


def test_the_sets_of_people_move_what_is_shown(runtime: Runtime) -> None:
    annotate(runtime.store, *range(1, 31))
    jobs.train(NUMBER)
    said = versions.of_tasks(runtime.store, NUMBER, project(runtime.store).published_version or "")
    chosen, true = (
        np.array([[label(n, row.key) == "applies" for row in DECISIONS[1:]] for n in range(31, N + 1)])
        for label in (lambda n, key: said[n][key].label, lambda n, key: truth(key, n))
    )
    assert micro_f1(chosen, true) > 0.6
