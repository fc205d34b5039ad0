"""People's labels in the store become weights, an anchoring effect and a line on each person."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import redis
from typer.testing import CliRunner

from mollm.errors import ConfigError
from mollm.records import Provenance
from mollm_backend import jobs
from mollm_backend.cli import app as command_line
from mollm_backend.jobs import pools
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.settings import Settings
from mollm_backend.store import Store, batches, labels, projects, versions
from mollm_backend.store.labels import Annotation
from mollm_backend.view import project as view
from mollm_backend.view import render
from mollm_backend.work import people, queues

from .conftest import add_texts

NAMES = ("cat", "dog")


def found_in(store: Store, options: dict[str, Any] | None = None) -> people.People:
    return people.of(store, 7, options or {}, NAMES, labels.every(store, 7))


def annotation(number: int, task: int, label: str | None, **values: Any) -> Annotation:
    kept = {"user_id": 1, "was_cancelled": False, "provenance": Provenance.EDITED} | values
    return Annotation(annotation_id=number, task_id=task, label=label, **kept)


def with_batch(store: Store, count: int, confidence: float = 0.7) -> None:
    """A version that calls every task a dog, all of it in one batch b1."""
    rows = add_texts(store, count)
    said = [
        versions.StoredPrediction(row.task_id, row.item.text_key, "dog", confidence, np.array([0.3, 0.7]))
        for row in rows
    ]
    versions.save(store, 7, versions.Version("v1", 0, "published", 0), said)
    entries = [batches.StoredEntry(row.task_id, n, "v1", "dog", confidence, "test") for n, row in enumerate(rows)]
    batches.save(store, 7, "b1", entries)


def crowd(store: Store, pull: float, seed: int = 0, count: int = 200, share: float = 0.3) -> None:
    """One person, who agrees with 7 of 10 labels by judgement, follows shown ones with `pull`, a share being blind."""
    with_batch(store, count)
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(1, count + 1):
        blind = rng.random() < share
        agrees = rng.random() < 0.7 or (not blind and rng.random() < pull)
        label = "dog" if agrees else "cat"
        how = Provenance.FROM_SCRATCH if blind else Provenance.ACCEPTED if agrees else Provenance.EDITED
        shown = None if blind else "dog"
        rows.append(annotation(n, n, label, provenance=how, shown_version="b1", shown_label=shown))
    labels.upsert(store, 7, rows)


def test_edited_and_from_scratch_by_one_person_weigh_one(store: Store) -> None:
    add_texts(store, 10)
    kinds = [Provenance.EDITED, Provenance.FROM_SCRATCH]
    labels.upsert(store, 7, [annotation(n, n, "dog", provenance=kinds[n % 2]) for n in range(1, 11)])
    found = found_in(store)
    assert [row.weight for row in found.human] == [1.0] * 10
    assert [replace(row, weight=1.0) for row in found.human] == labels.human_labels(labels.every(store, 7))
    assert "not measured" in found.lines[0]
    json.dumps(people.as_json(found), allow_nan=False)


def test_bulk_accepted_labels_weigh_less_and_all_as_the_project_says(store: Store) -> None:
    add_texts(store, 10)
    labels.upsert(store, 7, [annotation(n, n, "dog", provenance=kind) for n, kind in enumerate(Provenance, 1)])
    weights = {row.provenance.value: row.weight for row in found_in(store).human}
    assert weights == {"from_scratch": 1.0, "edited": 1.0, "accepted": 1.0, "bulk_accepted": 0.2}
    own = {people.WEIGHTS: {"accepted": 0.5}}
    assert {row.provenance.value: row.weight for row in found_in(store, own).human}["accepted"] == 0.5
    with pytest.raises(ConfigError):
        found_in(store, {people.WEIGHTS: {"accepted": 5}})


def test_a_crowd_that_follows_is_told_and_its_accepted_labels_weigh_less(store: Store) -> None:
    crowd(store, pull=0.9)
    found = found_in(store)
    assert found.effect.difference is not None
    assert found.effect.difference.low > 0
    assert "people follow what they see" in found.lines[0]
    learned = {row.weight for row in found.human if row.provenance is Provenance.ACCEPTED}
    assert max(learned) < 0.5
    assert {row.weight for row in found.human if row.provenance is not Provenance.ACCEPTED} == {1.0}
    own = found_in(store, {people.WEIGHTS: {"accepted": 0.9}})  # the project's word counts before what is learned
    assert {row.weight for row in own.human if row.provenance is Provenance.ACCEPTED} == {0.9}


def test_a_crowd_that_judges_keeps_its_weight(store: Store) -> None:
    crowd(store, pull=0.0, count=400)
    found = found_in(store)
    assert found.effect.difference is not None
    assert found.effect.difference.low <= 0 <= found.effect.difference.high
    assert min(row.weight for row in found.human) > 0.8


def test_what_was_not_seen_in_a_batch_is_no_sighting(store: Store) -> None:
    with_batch(store, 60)
    rows = [annotation(n, n, "dog", provenance=Provenance.FROM_SCRATCH) for n in range(1, 20)]  # no batch
    bulk = {"provenance": Provenance.BULK_ACCEPTED, "shown_version": "b1", "shown_label": "dog"}
    rows += [annotation(n, n, "dog", **bulk) for n in range(20, 40)]
    rows += [annotation(n, n, "dog", shown_version="b1", shown_label="cat") for n in range(40, 60)]  # another's label
    labels.upsert(store, 7, rows)
    assert (found_in(store).effect.blind, found_in(store).effect.shown) == (0, 0)


def test_two_people_are_kept_apart_and_weighed_by_who_is_right(store: Store) -> None:
    add_texts(store, 60)
    rng = np.random.default_rng(0)
    rows, truth = [], ["dog" if n % 2 else "cat" for n in range(60)]
    for user, accuracy in ((1, 0.97), (2, 0.97), (3, 0.6)):
        for n in range(60):
            right = rng.random() < accuracy
            label = truth[n] if right else NAMES[1 - NAMES.index(truth[n])]
            rows.append(annotation(user * 100 + n, n + 1, label, user_id=user))
    labels.upsert(store, 7, rows)
    found = found_in(store)
    assert len(found.human) == 180
    score = np.zeros((60, 2))
    for row in found.human:
        score[int(row.item) - 1, NAMES.index(row.label)] += row.weight
    right = np.mean([NAMES[c] == label for c, label in zip(score.argmax(axis=1), truth, strict=True)])
    assert right >= 0.96
    reliable = {user: person.reliability.value for user, person in found.users.items() if person.reliability}
    assert reliable["1"] > 0.85 > 0.75 > reliable["3"]
    assert sum("user 3: 60 labels, 60 on tasks that others labelled too" in line for line in found.lines) == 1


def test_several_annotations_of_one_person_on_one_task_count_once(store: Store) -> None:
    """Made from predictions of ours, whichever: the newest counts, but a bulk acceptance never outdoes a judgement."""
    with_batch(store, 10)
    ours = {"shown_version": "b1", "shown_label": "dog"}
    labels.upsert(store, 7, [
        annotation(1, 1, "dog", provenance=Provenance.ACCEPTED, parent_prediction=11, updated_at="2026-01-01", **ours),
        annotation(2, 1, "cat", provenance=Provenance.EDITED, parent_prediction=12, updated_at="2026-01-02", **ours),
        annotation(3, 2, "cat", provenance=Provenance.EDITED, parent_prediction=13, updated_at="2026-01-01", **ours),
        annotation(4, 2, "dog", provenance=Provenance.BULK_ACCEPTED, parent_prediction=14, updated_at="2026-01-02",
                   **ours),
        annotation(5, 3, "dog", provenance=Provenance.BULK_ACCEPTED, parent_prediction=15, **ours),
        annotation(6, 3, None, was_cancelled=True, updated_at="2026-01-03"),
        annotation(7, 1, "dog", user_id=2, provenance=Provenance.ACCEPTED, parent_prediction=11, **ours),
    ])  # fmt: skip
    counted = [(row.item, row.annotator, row.label) for row in found_in(store).human]
    assert sorted(counted) == [("1", "1", "cat"), ("1", "2", "dog"), ("2", "1", "cat"), ("3", "1", "dog")]


def test_a_training_uses_the_weights_and_the_report_tells(
    settings: Settings, store: Store, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = Runtime(settings, store, connection)
    jobs.install(runtime)
    crowd(store, pull=0.9, count=100, share=0.4)
    pool = pools.read_pools(runtime, projects.get(store, 7))[0]
    accepted = [row.provenance is Provenance.ACCEPTED for row in pool.human]
    assert pool.targets.weight[accepted].max() < 0.7
    queues.request_training(connection, 7)
    jobs.train(7)
    state = view.status(store, connection)
    assert "anchoring: people agree" in state["projects"][0]["people"]["lines"][0]
    assert "anchoring: people agree" in render.project_page(state["projects"][0], actions=None)
    monkeypatch.setenv("MOLLM_HOME", str(settings.home))
    monkeypatch.setenv("REDIS_URL", settings.redis_url)
    told = CliRunner().invoke(command_line, ["report"])
    assert "anchoring: people agree" in told.stdout
    as_json = json.loads(CliRunner().invoke(command_line, ["report", "--json"]).stdout)["projects"][0]["people"]
    assert as_json["anchoring"]["difference"]["low"] > 0
    assert as_json["users"]["1"]["labels"] == 100
