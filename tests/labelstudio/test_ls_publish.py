"""Publishing against an in-memory Label Studio: once and only once, in order, whatever was interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mollm.errors import InputError
from mollm.records import LabelSet
from mollm_backend.labelstudio import label_config, order, prune, publish, tab_shapes
from mollm_backend.labelstudio.client import Imported, LabelStudioClient, RemoteProject
from mollm_backend.labelstudio.errors import LabelStudioError
from mollm_backend.labelstudio.prune import prunable
from mollm_backend.store import Store, batches, projects, tasks, versions
from mollm_backend.store.batches import StoredEntry
from mollm_backend.store.decisions import Decision, Source
from mollm_backend.store.projects import Project
from mollm_backend.store.tasks import Task
from mollm_backend.store.versions import StoredPrediction, Version

from .fake_studio import CONFIG

P = 3


class FakePages:
    """Holds predictions as (task, version, score, result); `dies` after so many rows of an import."""

    def __init__(self) -> None:
        self.held: list[tuple[int, str, float, Any]] = []
        self.remote = RemoteProject(P, "", "", CONFIG, "Sequential sampling", "", 1, 0, 0, 0, True)
        self.patches: list[dict[str, Any]] = []
        self.tabs: list[dict[str, Any]] = []
        self.dies: int | None = None
        self.locked = False

    def project(self, project_id: int) -> RemoteProject:
        return self.remote

    def patch_project(self, project_id: int, **values: Any) -> None:
        if values.get("model_version") not in {version for _, version, _, _ in self.held} | {None}:
            raise LabelStudioError("Model version doesn't exist")
        self.patches.append(values)
        names = {"show_collab_predictions": "show_predictions"}
        self.remote = replace(self.remote, **{names.get(key, key): value for key, value in values.items()})

    def tasks_with_version(self, project_id: int, version: str) -> set[int]:
        return {task for task, held, _, _ in self.held if held == version}

    def import_predictions(self, project_id: int, rows: Sequence[dict[str, Any]]) -> Imported:
        for n, row in enumerate(rows):
            if self.dies is not None and n >= self.dies:
                raise KeyboardInterrupt
            self.held.append((row["task"], row["model_version"], row["score"], row["result"]))
        return Imported(len(rows))

    def delete_version(self, project_id: int, version: str) -> None:
        if self.locked:
            raise LabelStudioError("database is locked")
        self.held = [row for row in self.held if row[1] != version]

    def views(self, project_id: int) -> list[dict[str, Any]]:
        return self.tabs

    def create_view(self, project_id: int, data: dict[str, Any]) -> dict[str, Any]:
        self.tabs.append({"id": 1 + len(self.tabs), "data": data})
        return self.tabs[-1]

    def patch_view(self, view_id: int, project_id: int, data: dict[str, Any]) -> None:
        self.tabs[0]["data"] = data

    def order(self, version: str) -> list[int]:
        return [task for task, held, _, _ in sorted(self.held, key=lambda row: row[2]) if held == version]


@pytest.fixture
def pages(store: Store) -> FakePages:
    projects.save(store, Project(P, "u", "t", "", CONFIG, label_config.parse(CONFIG)))
    tasks.upsert(store, P, [Task(n, str(n), f"text {n}") for n in range(1, 31)])
    return FakePages()


def entries(ids: Sequence[int], first: int = 0) -> list[StoredEntry]:
    return [StoredEntry(task, first + n, "v", "B", 0.7, "margin") for n, task in enumerate(ids)]


def run(store: Store, pages: Any, version: str = "b1") -> publish.PublishReport:
    return publish.publish_batch(store, pages, P, version)


def test_a_batch_is_imported_once_in_order_and_made_current_once(store: Store, pages: FakePages) -> None:
    batches.save(store, P, "b1", entries([9, 4, 20]))
    assert run(store, pages).created == 3
    assert pages.order("b1") == [9, 4, 20]
    assert [row[3][0]["score"] for row in pages.held] == [0.7] * 3
    assert len(pages.patches) == 1
    again = run(store, pages)
    assert (again.created, again.lines, len(pages.patches)) == (0, (), 1)  # no PATCH: it would send us an event


@pytest.mark.parametrize("dies", [0, 1, 2, 3])
def test_an_import_that_was_killed_leaves_no_double_and_no_gap(store: Store, pages: FakePages, dies: int) -> None:
    batches.save(store, P, "b1", entries([9, 4, 20, 7]))
    pages.dies = dies
    with pytest.raises(KeyboardInterrupt):
        run(store, pages)
    pages.dies = None
    run(store, pages)
    assert pages.order("b1") == [9, 4, 20, 7]
    assert all(row.published_at for row in batches.entries(store, P, "b1"))


def test_a_refill_comes_after_what_is_there(store: Store, pages: FakePages) -> None:
    batches.save(store, P, "b1", entries([9, 4]))
    run(store, pages)
    batches.save(store, P, "b1", entries([1, 30], first=2))
    assert run(store, pages).created == 2
    assert pages.order("b1") == [9, 4, 1, 30]


def test_what_cannot_be_sent_is_named_and_the_rest_goes_on(store: Store, pages: FakePages) -> None:
    rows = [*entries([9, 99]), replace(entries([4])[0], rank=2, label="Z")]
    batches.save(store, P, "b1", rows)
    report = run(store, pages)
    assert (report.created, [task for task, _ in report.refused]) == (1, [99, 4])
    assert any("not in Label Studio any more" in line for line in report.lines)
    assert run(store, pages).refused == ()  # told once


def test_a_batch_of_nothing_does_not_become_current(store: Store, pages: FakePages) -> None:
    batches.save(store, P, "b1", entries([99]))
    assert any("does not serve" in line for line in run(store, pages).lines)


def test_a_server_that_serves_another_order_gets_a_tab(store: Store, pages: FakePages) -> None:
    projects.change(store, P, connection={"order": {"served": False, "reason": "it is random"}})
    for batch, task in (("b1", 9), ("b2", 4)):
        batches.save(store, P, batch, entries([task]))
        lines = run(store, pages, batch).lines
        assert any("it is random" in line and tab_shapes.NEXT in line for line in lines)
    assert [tab["data"]["title"] for tab in pages.tabs].count(tab_shapes.NEXT) == 1


def test_the_order_check_names_what_hinders() -> None:
    good = RemoteProject(P, "", "", CONFIG, order.UNCERTAINTY, "b1", 1, 0, 0, 0, True)
    assert order.why_not_served(good, "b1") == ""
    for bad in ({"model_version": "x"}, {"sampling": "Sequential sampling"}, {"maximum_annotations": 2}):
        assert order.why_not_served(replace(good, **bad), "b1")


@settings(deadline=None)
@given(st.floats(0, 1))
def test_the_blind_share_is_about_what_was_asked_for_and_fixed(share: float) -> None:
    project = Project(P, "", "", "", CONFIG, (Decision("l", (Source("t", "t"),), LabelSet(("A", "B"))),),
                      options={"blind_share": share})  # fmt: skip
    drawn = [publish.is_blind(project, "b1", task) for task in range(2000)]
    assert abs(np.mean(drawn) - share) < 0.05
    assert drawn == [publish.is_blind(project, "b1", task) for task in range(2000)]


def test_prelabel_is_resumable_and_shows_its_way(store: Store, pages: FakePages) -> None:
    probs = np.array([0.2, 0.7, 0.1])
    rows = [StoredPrediction(n, "k", "B", 0.7, probs) for n in range(1, 31)]
    versions.save(store, P, Version("v", 1, "published", 0), rows)
    seen: list[tuple[int, int]] = []
    with pytest.raises(KeyboardInterrupt):
        publish.prelabel(store, pages, P, "v", chunk=12, progress=lambda *at: (seen.append(at), _stop(seen))[0])  # type: ignore[arg-type, func-returns-value]
    assert seen == [(0, 30), (12, 30)]
    report = publish.prelabel(store, pages, P, "v", chunk=12)
    assert report.created == 18
    assert sorted(pages.order("v")) == list(range(1, 31))
    with pytest.raises(InputError, match="versions"):
        publish.prelabel(store, pages, P, "nope")


def _stop(seen: list[tuple[int, int]]) -> None:
    if seen[-1][0] == 12:
        raise KeyboardInterrupt


def test_only_old_batches_that_nobody_can_hold_open_are_prunable(store: Store, pages: FakePages) -> None:
    for version, task in (("b1", 9), ("b2", 4), ("b3", 20)):
        batches.save(store, P, version, entries([task]))
        batches.mark_published(store, P, version, [task])
    now = datetime.now(UTC)
    assert prunable(store, P, {"b3"}, now) == []
    later = now + timedelta(hours=25)
    assert set(prunable(store, P, {"b3"}, later)) == {"b1", "b2"}
    assert set(prunable(store, P, {"b3", "b1"}, later)) == {"b2"}
    batches.mark_unpublished(store, P, "b1")
    assert prunable(store, P, {"b3"}, later) == ["b2"]


def test_an_old_batch_whose_deletion_is_refused_is_tried_again(
    store: Store, pages: FakePages, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prune, "reconcile", lambda *_args: None)
    for version, task in (("b1", 9), ("b2", 4)):
        batches.save(store, P, version, entries([task]))
        run(store, pages, version)
    later, client = datetime.now(UTC) + timedelta(hours=25), cast("LabelStudioClient", pages)
    pages.locked = True
    with pytest.raises(LabelStudioError):
        prune.prune(store, client, P, at=later)
    pages.locked = False
    assert len(prune.prune(store, client, P, at=later)) == 1
    assert pages.tasks_with_version(P, "b1") == set()
    assert pages.tasks_with_version(P, "b2") == {4}
    assert prune.prune(store, client, P, at=later) == ()
