"""A decision that is asked only where another label shows its control: in training, batches, audits and exports."""

from __future__ import annotations

import csv
import io
from dataclasses import replace

import numpy as np
import pytest
import redis
from typer.testing import CliRunner

from mollm.acceptance.plan import Goal
from mollm.records import Provenance
from mollm_backend import cli, jobs
from mollm_backend.jobs import certifying
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.labelstudio.events import AskedTask
from mollm_backend.labelstudio.label_config import parse
from mollm_backend.settings import Settings
from mollm_backend.store import (
    Store,
    audit_answers,
    audits,
    batches,
    frozen,
    labels,
    projects,
    signals,
    tasks,
    versions,
)
from mollm_backend.store.audits import Audit, AuditTask, Part
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.signals import Cost, SignalRow
from mollm_backend.store.tasks import Task
from mollm_backend.web import lookup
from mollm_backend.work import finishing

NUMBER, N = 9, 40
CONFIG = (
    '<View><Text name="text" value="$text"/>'
    '<Choices name="kind" toName="text" visibleWhen="choice-selected" whenTagName="animal" whenChoiceValue="dog">'
    '<Choice value="small"/><Choice value="large"/></Choices>'
    '<Choices name="animal" toName="text"><Choice value="cat"/><Choice value="dog"/></Choices>{}</View>'
)
NOTE = '<TextArea name="note" toName="text" required="true" {}/>'
KIND, ANIMAL = parse(CONFIG.format(""))


def animal(number: int) -> str:
    return "cat" if number % 2 else "dog"


@pytest.fixture
def runtime(settings: Settings, store: Store, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    """One LLM that is sure of the animal, and says of every text, a cat's too, that it is a small dog."""
    monkeypatch.setenv("MOLLM_HOME", str(settings.home))
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    panel = tuple(PanelMember("llm", f"llm on {row.key}", row.key) for row in (KIND, ANIMAL))
    config = CONFIG.format("")
    projects.save(store, Project(NUMBER, "http://ls", "Pets", "2026", config, (KIND, ANIMAL), panel,
                                 reconciled_at="2999-01-01T00:00:00+00:00"))  # fmt: skip
    tasks.upsert(store, NUMBER, [Task(n, f"hash-{n}", f"animal number {n}") for n in range(1, N + 1)])
    for member, decision in zip(panel, (KIND, ANIMAL), strict=True):
        answers = []
        for task in tasks.every(store, NUMBER):
            said = decision.labels.index(animal(task.task_id)) if decision is ANIMAL else 0
            probs = np.full(2, 0.1)
            probs[said] = 0.9
            answers.append(SignalRow(task.item.text_key, probs, probs))
        signals.save(store, member, NUMBER, answers, Cost(calls=1, texts=N))
    opened = Runtime(settings, store, connection)
    jobs.install(opened)
    return opened


def project(store: Store) -> Project:
    return projects.get(store, NUMBER)


def annotate(store: Store, number: int, said: str, kind: str | None, user: int = 1) -> None:
    """As reconciliation reads it: a control that was hidden has neither a label nor a problem."""
    both = ((ANIMAL, said), (KIND, kind))
    rows = [Annotation(100 + number, number, user, label, False, Provenance.FROM_SCRATCH, decision=decision.key)
            for decision, label in both]  # fmt: skip
    labels.upsert(store, NUMBER, rows)


def test_it_is_picked_served_and_shown_only_where_it_is_asked(runtime: Runtime) -> None:
    store = runtime.store
    jobs.train(NUMBER)
    entries = batches.entries(store, NUMBER, project(store).batch_version or "")
    assert {animal(row.task_id) for row in entries if row.reason.startswith("kind")} == {"dog"}
    assert {animal(row.task_id) for row in entries if row.reason.startswith("animal")} == {"cat", "dog"}
    for row in entries:
        assert ("kind: small" in row.label) == (animal(row.task_id) == "dog")
    asked = [AskedTask(n, {"text": f"animal number {n}"}) for n in (1, 2)]
    cat, dog = lookup.answers(store, project(store), asked)
    assert [part["from_name"] for part in cat["result"]] == ["animal"]
    assert [part["from_name"] for part in dog["result"]] == ["kind", "animal"]
    guess = versions.find(store, NUMBER, project(store).published_version).facts["guess"]  # type: ignore[union-attr]
    assert guess["n"] == N


def test_what_was_not_asked_teaches_nothing(runtime: Runtime) -> None:
    store = runtime.store
    for n in range(1, 11):
        annotate(store, n, animal(n), "large" if animal(n) == "dog" else None)
    jobs.train(NUMBER)
    version = versions.find(store, NUMBER, project(store).published_version)
    assert version is not None
    each = version.facts["decisions"]
    assert (len(each["animal"]["losses"]), len(each["kind"]["losses"])) == (10, 5)


def test_the_export_says_what_was_not_shown(runtime: Runtime) -> None:
    store = runtime.store
    jobs.train(NUMBER)
    annotate(store, 2, "cat", None)  # the LLM says dog
    found = CliRunner().invoke(cli.app, ["export", str(NUMBER)]).output
    rows = {int(row["task"]): row for row in csv.DictReader(io.StringIO(found))}
    assert (rows[2]["animal"], rows[2]["kind"], rows[2]["kind provenance"]) == ("cat", "", "not shown")
    assert (rows[1]["kind"], rows[1]["kind provenance"]) == ("", "not shown")
    assert (rows[4]["kind"], rows[4]["kind provenance"]) == ("small", "mixture")


def test_an_audit_asks_for_what_people_see(runtime: Runtime) -> None:
    """A cat has no kind: an answer without one is right, and one that makes a dog of it is wrong."""
    store = runtime.store
    jobs.train(NUMBER)
    rest, keys = frozen.freeze(store, project(store), lambda sure: float(np.prod(list(sure))))
    place = {int(task): n for n, task in enumerate(rest.task_ids)}
    assert rest.confidence[place[1]] > rest.confidence[place[2]], "one decision is asked of a cat, two of a dog"
    chosen = [place[n] for n in range(1, 7)]
    rows = [AuditTask(int(rest.task_ids[n]), 0, int(n), turn, 1.0, rest.labels_at(n, (KIND, ANIMAL)), keys[n])
            for turn, n in enumerate(chosen)]  # fmt: skip
    part = Part("simple", 6, N, 0, N, 0.05)
    made = audits.make(store, NUMBER, Audit("v", audits.CERTIFICATE, 0.5, 0.95, 1, (part,),
                                            audits.asked_digest(project(store).decisions)), rest, rows)  # fmt: skip
    assert {len(row.predicted) for row in audits.tasks_of(store, NUMBER, made.id)} == {1, 2}
    annotate(store, 1, "cat", None)
    annotate(store, 2, "dog", "small")
    annotate(store, 3, "dog", "small")
    annotate(store, 4, "cat", None)
    annotate(store, 5, "cat", None)
    blank = Annotation(106, 6, 1, None, False, Provenance.FROM_SCRATCH, decision="kind", problem="nothing was chosen")
    labels.upsert(store, NUMBER, [blank, replace(blank, label="dog", decision="animal", problem="")])
    answers = audit_answers.of(store, NUMBER, made)
    assert dict(zip(answers.task_ids.tolist(), answers.right.tolist(), strict=True)) == {
        1: True, 2: True, 3: False, 4: False, 5: True, 6: False,
    }  # fmt: skip
    assert answers.skipped == 1


@pytest.mark.parametrize(
    ("condition", "needing"),
    [("", N), ('visibleWhen="choice-selected" whenTagName="animal" whenChoiceValue="cat"', 20)],
)
def test_finish_says_where_people_must_fill_something(runtime: Runtime, condition: str, needing: int) -> None:
    store = runtime.store
    jobs.train(NUMBER)
    assert finishing.of(store, project(store), Goal(0.9, 0.9, 10)).needing == 0
    projects.change(store, NUMBER, label_config=CONFIG.format(NOTE.format(condition)))
    standing = finishing.of(store, project(store), Goal(0.9, 0.9, 10))
    assert standing.needing == needing
    (line,) = [line for line in standing.lines() if "`required`" in line]
    assert f"in {needing} of them people must fill TextArea 'note'" in line


def test_what_people_must_fill_is_not_certified(runtime: Runtime) -> None:
    store = runtime.store
    jobs.train(NUMBER)
    rest, _keys = frozen.freeze(store, project(store), lambda sure: float(np.prod(list(sure))))
    part = Part("simple", 1, N, 0, N, 0.05)
    audit = Audit("v", audits.CERTIFICATE, 0.5, 0.95, 1, (part,), audits.asked_digest(project(store).decisions))
    made = audits.make(store, NUMBER, audit, rest, [])
    sometimes = NOTE.format('visibleWhen="choice-selected" whenTagName="animal" whenChoiceValue="cat"')
    projects.change(store, NUMBER, label_config=CONFIG.format(sometimes))
    rows, said = certifying._accepted(store, project(store), made, np.arange(N))
    assert {animal(row.task_id) for row in rows} == {"dog"}
    assert "20 of the tasks are left to people, who must fill TextArea 'note' there." in said
