"""A training stores the suspect labels; `mollm recheck` lists and shows them until somebody has decided."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis
from typer.testing import CliRunner

from mollm.errors import InputError
from mollm.records import Provenance
from mollm_backend import cli, jobs
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.recheck import TAB
from mollm_backend.settings import Settings
from mollm_backend.store import Store, labels, projects, versions
from mollm_backend.store.labels import Annotation
from mollm_backend.work import suspects
from tests.labelstudio.fake_studio import FakeStudio

from .conftest import add_texts

WRONG = (8, 15)  # tasks whose animal both LLMs know


@pytest.fixture
def studio(
    settings: Settings, store: Store, connection: redis.Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> FakeStudio:
    """Two hundred labels, two of them wrong, and the version that was trained on them."""
    monkeypatch.setenv("MOLLM_HOME", str(tmp_path))
    fake = FakeStudio(0)
    monkeypatch.setattr(LabelStudioClient, "of", classmethod(lambda *_: fake))
    add_texts(store, 250)
    for task in range(1, 201):
        fake.data[task], fake.annotations_of[task] = {}, {}
        label(store, fake, task, "cat" if (task % 2 == 0) != (task in WRONG) else "dog")
    jobs.install(Runtime(settings, store, connection))
    jobs.train(7)
    return fake


def label(store: Store, studio: FakeStudio, task: int, said: str, person: int = 1) -> int:
    number = studio.annotate(task, said, person)
    at = studio.annotations_of[task][number]["updated_at"]
    kept = Annotation(number, task, person, said, False, Provenance.FROM_SCRATCH, created_at=at, updated_at=at)
    labels.upsert(store, 7, [kept])
    return number


def run(*words: str) -> Any:
    return CliRunner().invoke(cli.app, ["recheck", "7", *words], catch_exceptions=False)


def listed() -> list[dict[str, Any]]:
    return list(json.loads(run("--list", "--json").stdout))


def test_the_wrong_labels_are_listed_with_who_says_what(studio: FakeStudio) -> None:
    rows = listed()
    assert {row["task"] for row in rows} >= set(WRONG)
    assert len(rows) < 12  # 2 and, in expectation, 5 of 200 where both LLMs are wrong
    row = next(row for row in rows if row["task"] == 8)
    assert (row["given"], row["suggested"], row["by"], row["text"]) == ("dog", "cat", "Person 1", "meow number 7")
    assert "LLMs (tiny, small)" in row["reason"]
    assert "the mixture (0.9" in row["reason"]
    assert studio.tabs == {}
    assert [row["score"] for row in rows] == sorted((row["score"] for row in rows), reverse=True)
    table = run("--list").output
    assert "Person 1" in table
    assert "mixture" in table


def test_a_tab_shows_them_and_done_takes_it_away(studio: FakeStudio) -> None:
    before = json.dumps(studio.annotations_of)
    assert TAB in run().output
    _default, tab = studio.tabs.values()
    numbers = {int(number) for number in tab["filters"]["items"][0]["value"].split(",")}
    assert numbers == {row["annotation"] for row in listed()}
    run("--labels", "1")  # the same tab, with the new list
    _default, tab = studio.tabs.values()
    assert len(tab["filters"]["items"][0]["value"].split(",")) == 1
    assert "gone" in run("--done").output
    assert [data["title"] for data in studio.tabs.values()] == ["Default"]
    assert "no tab" in run("--done").output
    assert json.dumps(studio.annotations_of) == before


@pytest.mark.parametrize("how", ["edited", "confirmed", "second", "deleted"])
def test_what_somebody_has_decided_is_not_listed(studio: FakeStudio, store: Store, how: str) -> None:
    (number,) = studio.annotations_of[8]
    if how == "second":
        label(store, studio, 8, "dog", person=2)
    elif how == "deleted":
        labels.tombstone(store, 7, [number])
    else:
        said = "cat" if how == "edited" else "dog"
        kept = Annotation(number, 8, 1, said, False, Provenance.EDITED, updated_at=studio.tick())
        labels.upsert(store, 7, [kept])
    assert {row["task"] for row in listed()} >= {15}
    assert 8 not in {row["task"] for row in listed()}


def test_a_version_from_before_asks_for_a_training(studio: FakeStudio, store: Store) -> None:
    version = versions.find(store, 7, projects.get(store, 7).published_version)
    assert version is not None
    assert len(version.facts.pop("suspects")) <= suspects.STORED
    versions.save(store, 7, version, [])
    with pytest.raises(InputError, match="mollm train 7"):
        run()
