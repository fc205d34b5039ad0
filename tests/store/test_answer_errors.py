"""Failed answers are counted by kind, and asked again once the cause is gone."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from mollm.failures import KINDS, kind_of, remedy, retried
from mollm.records import LabelSet
from mollm_backend.store import Store, answer_errors, projects, signals, tasks
from mollm_backend.store.decisions import Decision, Source
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.signals import Cost, SignalRow
from mollm_backend.store.tasks import Task

MEMBER = PanelMember("tiny", "f")
WINDOW = "http://llm refused (400): the maximum context length is 120"
SERVER = "the server failed: http://llm answered 500"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store(url)
    decision = Decision("label", (Source("text", "text"),), LabelSet(("cat", "dog")))
    projects.save(opened, Project(7, "http://ls", "Pets", "2026-01-01", "<View/>", (decision,), (MEMBER,)))
    tasks.upsert(opened, 7, [Task(n, f"h{n}", f"text {n}") for n in range(6)])
    yield opened
    opened.close()


def answer(store: Store, *errors: str) -> tuple[set[str], dict[str, int]]:
    """The first tasks are answered, each with an error ("": none)."""
    rows = [tasks.some(store, 7, [n])[n] for n in range(len(errors))]
    found = answer_errors.note(store, "f", {row.text_key: error for row, error in zip(rows, errors, strict=True)})
    said = [
        SignalRow(row.text_key, np.full(2, 1.0 - bool(error)), np.full(2, 1.0 - bool(error)), float(bool(error)))
        for row, error in zip(rows, errors, strict=True)
    ]
    signals.save(store, MEMBER, 7, said, Cost())
    return found


def waiting(store: Store) -> int:
    return signals.unanswered(store, 7, "f")


def test_kinds_are_counted_with_their_remedy(store: Store) -> None:
    fresh, better = answer(store, WINDOW, WINDOW, SERVER, "")
    assert (fresh, better) == ({"window", "server failed"}, {})
    first, second = answer_errors.problems(store, projects.get(store, 7))
    assert (first.kind, first.texts, first.annotator) == ("window", 2, "tiny")
    assert "120" in first.line
    assert "--max-model-len" in first.remedy
    assert (second.kind, second.texts) == ("server failed", 1)
    assert answer(store, WINDOW) == (set(), {}), "this kind is known"


def test_a_failed_answer_is_asked_again_and_what_is_answered_is_forgotten(store: Store) -> None:
    answer(store, WINDOW, WINDOW, "")
    assert waiting(store) == 3
    assert answer_errors.ask_again(store, "f", kind="server failed") == 0
    assert answer_errors.ask_again(store, "f", kind="window") == 2
    assert waiting(store) == 5
    assert answer(store, "", "") == (set(), {"window": 1})
    assert answer_errors.problems(store, projects.get(store, 7)) == []


def test_a_few_are_tried_when_their_time_has_come(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    answer(store, *[WINDOW] * 5)
    assert answer_errors.ripe(store, "f") == []
    now = answer_errors.time.time() + 700
    monkeypatch.setattr(answer_errors.time, "time", lambda: now)
    assert answer_errors.ripe(store, "f") == ["window"]
    assert answer_errors.ask_again(store, "f", kind="window", limit=2, due=now) == 2
    assert waiting(store) == 3
    assert answer_errors.ripe(store, "f") == [], "the trial waits for its answer"


def test_a_text_that_always_fails_is_not_asked_after_each_of_the_others(store: Store) -> None:
    answer(store, *[WINDOW] * 4)
    answer_errors.ask_again(store, "f", kind="window")
    answer(store, WINDOW, WINDOW)
    _, better = answer(store, WINDOW, WINDOW, "")
    assert better == {"window": 1}
    assert answer_errors.ask_again(store, "f", kind="window", attempts=1) == 0
    assert waiting(store) == 3


def test_abstentions_of_unknown_reason_are_found_and_asked_again(store: Store) -> None:
    key = tasks.some(store, 7, [0])[0].text_key
    signals.save(store, MEMBER, 7, [SignalRow(key, np.zeros(2), np.zeros(2), 1.0)], Cost())
    project = projects.get(store, 7)
    assert answer_errors.problems(store, project) == []
    (found,) = answer_errors.unnoted(store, project)
    assert found.texts == 1
    assert answer_errors.ask_again(store, "f") == 1
    assert answer_errors.unnoted(store, project) == []


def test_a_start_tries_at_once_what_may_pass(store: Store) -> None:
    answer(store, WINDOW, "the answer holds NaN, infinity or a negative")
    answer_errors.try_at_once(store)
    assert answer_errors.ripe(store, "f") == ["window"]


def test_each_of_our_errors_has_a_kind() -> None:
    ours = {
        "the server failed: http://x answered 500: oops": "server failed",
        "http://x/v1/completions refused (400): max_tokens must be at least 1, got 0.": "window",
        "http://x refused (400): the request exceeds the available context size": "window",
        "http://x refused (400): this content is not allowed": "refused",
        "no label is among the most probable tokens": "no label named",
        "the LLM gives no probability to any label": "no label named",
        "none of 5 samples names a label; the first begins with 'Sure'": "no label named",
        "the LLM's log-probabilities hold NaN": "broken numbers",
        "the model is still thinking where its answer should begin": "thinking",
        "odd": "other",
    }
    assert {error: kind_of(error) for error in ours} == ours
    assert all(remedy(kind) for kind in ours.values())
    assert retried("window")
    assert not retried("broken numbers")
    assert len({kind for kind, *_ in KINDS}) == len(KINDS)
