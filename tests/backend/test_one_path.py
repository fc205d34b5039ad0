"""What is measured is what is served: a replayed round and a served round on the same arrays say the same."""

from __future__ import annotations

import numpy as np
import pytest
import redis

from mollm.lab.experiment import LoopOptions
from mollm.lab.fuse import Part, replayed
from mollm.lab.served_loop import ServedLoop
from mollm.recording import Recording
from mollm.records import Provenance
from mollm_backend import jobs
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.settings import Settings
from mollm_backend.store import Store, labels, projects, signals, tasks, versions
from mollm_backend.store.labels import Annotation

from .conftest import add_texts

ASKED = np.arange(0, 48, 2)
"""The tasks that people label: enough for the learned rung."""


class Letters:
    """An encoder that counts letters."""

    fingerprint = "letters"

    def embed(self, texts: list[str]) -> np.ndarray:
        return np.array([[text.count(letter) for letter in "abcdefgmnorstuw"] for text in texts], dtype=np.float64)


@pytest.fixture
def runtime(settings: Settings, store: Store, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Runtime:
    opened = Runtime(settings, store, connection)
    monkeypatch.setattr(opened, "encoder", Letters)
    jobs.install(opened)
    return opened


def recorded(store: Store) -> Recording:
    """The project's tasks and signals as a recording, with the animal as the gold label."""
    project = projects.get(store, 7)
    rows = tasks.every(store, 7)
    panel = signals.load(store, project, rows)
    gold = np.array([0 if "meow" in (task.text or "") else 1 for task in rows], dtype=np.int64)
    items = tuple(task.item for task in rows)
    return Recording("pets", project.decision.labels, items, panel, gold, 10, 0.7, 0.9)


@pytest.mark.parametrize("aggregator", ["auto", "stacked"])
def test_a_replayed_round_and_a_served_round_agree_in_every_probability(runtime: Runtime, aggregator: str) -> None:
    projects.change(runtime.store, 7, options={"loop": {"aggregator": aggregator}})
    rows = add_texts(runtime.store, 60)
    animals = [Annotation(100 + n, rows[n].task_id, 1, "cat" if n % 2 else "dog", False, Provenance.FROM_SCRATCH)
               for n in ASKED]  # fmt: skip
    labels.upsert(runtime.store, 7, animals)
    jobs.train(7)
    project = projects.get(runtime.store, 7)
    served = versions.predicted(runtime.store, 7, project.published_version or "")
    config = runtime.loop_config(project)
    recording = recorded(runtime.store)
    outcome = replayed(Part(recording, None), ASKED, config, Letters(), np.random.default_rng([config.seed, 0]))
    assert outcome.state["mixture"].kind == "auto"
    stored = np.array([served[int(item.id)].probs for item in recording.items])
    np.testing.assert_array_equal(stored, outcome.probabilities.astype("<f4"))
    by_classifier = np.array([served[int(item.id)].classifier_probs for item in recording.items])
    assert outcome.classifier_probabilities is not None
    np.testing.assert_array_equal(by_classifier, outcome.classifier_probabilities.astype("<f4"))


def test_the_replayed_loop_runs_that_round(runtime: Runtime) -> None:
    add_texts(runtime.store, 60)
    recording = recorded(runtime.store)
    options = LoopOptions(rounds=1, batch=20, test=10, strategy="margin", human_per_round=20)
    loop = ServedLoop(recording, options, 3, Letters())
    pool = Part(recording, None).take(loop.pool)
    human, rng = loop.human, loop.stream(1)
    loop.play()
    outcome = replayed(pool, human, options.loop_config(), Letters(), rng)
    np.testing.assert_array_equal(loop.probabilities[0], outcome.probabilities)
