"""`mollm guidelines`: a better instruction is taken, a worse one never, and what it was judged on it has not seen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest
import redis
from typer.testing import CliRunner

from mollm.annotators import Answer
from mollm.errors import InputError
from mollm.records import Provenance
from mollm_backend import cli
from mollm_backend.jobs import guidelines
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.settings import Settings
from mollm_backend.store import Store, labels, projects, signals
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import PanelMember, Project
from tests.backend.conftest import add_texts

N = 160
GOOD, BAD = "Say whether the animal barks.", "Say whatever you like."


@dataclass
class Told:
    """An LLM whose accuracy is in its instruction; it keeps what it was asked."""

    right: float
    written: str = ""
    asked: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def annotate(self, texts: Sequence[str]) -> list[Answer]:
        self.asked += texts
        answers = []
        for text in texts:
            rng = np.random.default_rng([int(text.rsplit(" ", 1)[1]), int(100 * self.right)])
            truth = int(text.startswith("woof"))
            probs = np.full(2, 0.2)
            probs[truth if rng.random() < self.right else 1 - truth] = 0.8
            answers.append(Answer(probs, probs, prompt_tokens=10, completion_tokens=1))
        return answers

    def write(self, request: str, tokens: int) -> str:
        self.requests.append(request)
        return self.written


@dataclass
class Panel:
    runtime: Runtime
    llms: dict[str, Told] = field(default_factory=dict)
    written: str = ""

    def of(self, project: Project, member: PanelMember) -> Any:
        right = {GOOD: 0.97, BAD: 0.5}.get(project.options.get("instruction", ""), 0.75)
        return self.llms.setdefault(member.fingerprint, Told(right, self.written))

    @property
    def asked(self) -> list[str]:
        return [text for llm in self.llms.values() for text in llm.asked]


@pytest.fixture
def panel(settings: Settings, store: Store, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Panel:
    """160 texts with a label each, which the panel has read with three in four right; its last LLM is the best."""
    monkeypatch.setenv("MOLLM_HOME", str(settings.home))
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    monkeypatch.delenv("DATABASE_URL", raising=False)
    rows = add_texts(store, N)
    runtime = Runtime(settings, store, connection)
    found = Panel(runtime)
    monkeypatch.setattr(Runtime, "annotator", lambda _self, project, member: found.of(project, member))
    project = runtime.refresh_panel(projects.get(store, 7))
    for member in project.panel:
        right = 0.9 if member == project.panel[-1] else 0.75
        answers = Told(right).annotate([row.text or "" for row in rows])
        kept = [signals.SignalRow(row.text_key, one.label_probs, one.votes)
                for row, one in zip(rows, answers, strict=True)]  # fmt: skip
        signals.save(store, member, 7, kept, signals.Cost(calls=1, texts=N, prompt_tokens=10 * N))
    said = [Annotation(n, row.task_id, 1, "dog" if (row.text or "").startswith("woof") else "cat", False,
                       Provenance.FROM_SCRATCH) for n, row in enumerate(rows)]  # fmt: skip
    labels.upsert(store, 7, said)
    return found


def project(panel: Panel) -> Project:
    return projects.get(panel.runtime.store, 7)


def run(*words: str) -> Any:
    return CliRunner().invoke(cli.app, ["guidelines", "7", *words])


def test_a_better_instruction_is_taken_by_one_command_and_taken_back_by_one(panel: Panel) -> None:
    store, before = panel.runtime.store, project(panel).panel
    assert run("--apply").exit_code == 1
    answer = run("--instruction", GOOD)
    assert answer.exit_code == 0, answer.output
    assert f"+ {GOOD}" in answer.output
    made = guidelines.last(project(panel))
    assert made is not None
    assert made.paired.after > 0.9 > made.paired.before
    assert made.tokens == 11 * made.paired.n * len(before)
    assert made.tokens_for_all > made.tokens
    assert project(panel).options.get("instruction") is None, "a trial changes nothing"
    assert run("--apply").exit_code == 0
    assert project(panel).options["instruction"] == GOOD
    after = panel.runtime.refresh_panel(project(panel)).panel
    assert {row.fingerprint for row in after}.isdisjoint(row.fingerprint for row in before)
    left = [signals.unanswered(store, 7, row.fingerprint) for row in after]
    assert left == [N - made.paired.n] * len(after), "what was read for the trial is not read again"
    assert run("--apply").exit_code == 1
    assert run("--back").exit_code == 0
    assert panel.runtime.refresh_panel(project(panel)).panel == before, "all answers are there again"
    assert run("--back").exit_code == 1


@pytest.mark.parametrize("instruction", [BAD, "Say what is there."])
def test_what_is_not_shown_to_be_better_cannot_be_applied(panel: Panel, instruction: str) -> None:
    answer = run("--instruction", instruction, "--json")
    assert json.loads(answer.stdout)["better"] is False
    refused = run("--apply")
    assert refused.exit_code == 1
    assert "not shown to be better" in str(refused.exception)
    assert project(panel).options.get("instruction") is None


def test_each_try_asks_for_more_evidence(panel: Panel) -> None:
    for instruction in (BAD, GOOD):
        run("--instruction", instruction)
    made = guidelines.last(project(panel))
    assert made is not None
    assert made.attempt == 2
    assert made.paired.alpha == pytest.approx(0.05 / 6)


def test_what_a_proposal_sees_is_not_what_judges_it(panel: Panel) -> None:
    propose, judge = guidelines.halves(panel.runtime.store, project(panel))
    assert len(propose) + len(judge) == N
    assert abs(len(judge) - N / 2) < 30
    panel.written = f'The instruction should be: "{GOOD}"\nand more words'
    answer = run("--json")
    assert answer.exit_code == 0, answer.output
    made = json.loads(answer.stdout)
    assert made["instruction"] == GOOD
    assert made["writer"] == project(panel).panel[-1].name, "the best LLM of the panel writes"
    (request,) = [one for llm in panel.llms.values() for one in llm.requests]
    shown = {line.split('"')[1] for line in request.splitlines() if line.startswith("Text: ")}
    assert 1 <= len(shown) <= guidelines.SHOWN
    assert shown <= {task.text for task, _ in propose}
    assert not shown & {task.text for task, _ in judge}


def test_an_llm_that_writes_nothing_of_use_is_said(panel: Panel) -> None:
    panel.written = "ok"
    answer = run()
    assert answer.exit_code == 1
    assert "give one yourself" in str(answer.exception)


def test_few_labels_and_disputed_ones_do_not_judge(panel: Panel) -> None:
    store = panel.runtime.store
    rows = labels.every(store, 7)
    swapped = {"cat": "dog", "dog": "cat"}
    other = [replace(row, annotation_id=1000 + row.annotation_id, user_id=2, label=swapped[str(row.label)])
             for row in rows[:40]]  # fmt: skip
    labels.upsert(store, 7, other)
    propose, judge = guidelines.halves(store, project(panel))
    assert len(propose) + len(judge) == N - 40
    labels.tombstone(store, 7, [row.annotation_id for row in (*rows[:120], *other)])
    with pytest.raises(InputError, match="label more first"):
        guidelines.tried(panel.runtime, project(panel), GOOD, print)


def test_a_trial_that_was_stopped_goes_on(panel: Panel) -> None:
    class Stopped(Exception):
        pass

    def stop(line: str) -> None:
        if "32 of" in line:
            raise Stopped

    with pytest.raises(Stopped):
        guidelines.tried(panel.runtime, project(panel), GOOD, stop)
    before = len(panel.asked)
    assert before == 32
    made = guidelines.tried(panel.runtime, project(panel), GOOD, lambda _line: None)
    assert made.attempt == 1
    assert len(panel.asked) == made.paired.n * len(project(panel).panel), "no text was asked twice"


def test_without_a_label_there_is_nothing_to_propose_from(panel: Panel) -> None:
    store = panel.runtime.store
    labels.tombstone(store, 7, [row.annotation_id for row in labels.every(store, 7)])
    answer = run()
    assert answer.exit_code == 1
    assert "nothing to propose from" in str(answer.exception)
