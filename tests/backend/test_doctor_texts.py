"""What `mollm doctor` says of the texts: what of them is not read, and by whom, and in which language they are."""

from __future__ import annotations

import numpy as np

from mollm_backend.doctor import texts
from mollm_backend.doctor.finding import Finding
from mollm_backend.settings import Settings
from mollm_backend.store import Store, projects, signals, tasks, versions
from mollm_backend.store.signals import Cost, SignalRow
from mollm_backend.store.tasks import Task
from mollm_backend.store.versions import Version
from tests.backend.conftest import add_texts


def found(store: Store, settings: Settings) -> dict[str, Finding]:
    return {row.name: row for row in texts.examine(store, settings, projects.every(store))}


def test_texts_that_are_read_whole_are_fine(store: Store, settings: Settings) -> None:
    add_texts(store, 4)
    assert set(found(store, settings)) == {"texts"}


def test_a_text_that_an_llm_read_in_part_is_said_with_its_window(store: Store, settings: Settings) -> None:
    member = projects.every(store)[0].panel[0]
    rows = [Task(n, f"hash-{n}", f"the text number {n} is about a cow " * 9) for n in (1, 2, 3)]
    tasks.upsert(store, 7, rows)
    answers = [
        SignalRow(row.text_key, np.array([0.5, 0.5]), np.array([0.5, 0.5]), truncated=row.task_id < 3) for row in rows
    ]
    signals.save(store, member, 7, answers, Cost(calls=1, texts=3, truncated=2))
    finding = found(store, settings)["texts-cut"]
    assert f"{member.name} read 2 texts only in part: its windows hold no more" in finding.line
    assert "max_tokens" in finding.fix
    tasks.tombstone(store, 7, [1, 2])
    assert "texts-cut" not in found(store, settings)


def test_what_the_encoder_did_not_read_is_said(store: Store, settings: Settings) -> None:
    facts = {"unread": {"texts": 500, "longer": 3, "tokens": 12345}}
    versions.save(store, 7, Version("mollm-1-aaaa", 1, "candidate", 0, facts), ())
    versions.publish(store, 7, "mollm-1-aaaa")
    line = found(store, settings)["texts-cut"].line
    assert "3 of 500 texts" in line
    assert "12,345 tokens" in line


def test_what_tuned_layers_do_not_read_is_said(store: Store, settings: Settings) -> None:
    facts = {
        "unread": {"texts": 500, "longer": 0, "tokens": 0},
        "unread_tuned": {"texts": 500, "longer": 7, "tokens": 90},
    }
    versions.save(store, 7, Version("mollm-1-aaaa", 1, "candidate", 0, facts), ())
    versions.publish(store, 7, "mollm-1-aaaa")
    finding = found(store, settings)["texts-cut"]
    assert "7 of 500 texts are longer than the tuned classifier reads" in finding.line
    assert "head" in finding.fix


def test_another_language_is_said_while_the_encoder_reads_english_only(store: Store, settings: Settings) -> None:
    german = "Meine Bestellung Nummer {} ist noch nicht angekommen, können Sie mir sagen, wo sie ist?"
    tasks.upsert(store, 7, [Task(n, f"hash-{n}", german.format(n)) for n in range(1, 9)])
    finding = found(store, settings)["not-english"]
    assert "100%" in finding.line
    assert "MOLLM_ENCODER" in finding.fix
    other = settings.model_copy(update={"encoder": "org/multilingual"})
    assert "not-english" not in found(store, other)
    add_texts(store, 4)
    english = "My order number {} has not arrived yet, can you tell me where it is?"
    tasks.upsert(store, 7, [Task(n, f"hash-{n}", english.format(n)) for n in range(100, 200)])
    assert "not-english" not in found(store, settings)
