"""Our tabs against an in-memory Label Studio: made once, kept up to date at no cost, and never those of people."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from mollm_backend.jobs import tabs as jobs_tabs
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.labelstudio import label_config, tab_shapes, tabs
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.errors import LabelStudioError
from mollm_backend.store import Store, events, projects, tasks, versions
from mollm_backend.store.projects import Project
from mollm_backend.store.tasks import Task
from mollm_backend.store.versions import StoredPrediction, Version

from .fake_studio import CONFIG, FakeStudio

P = 3
ALWAYS = [tab_shapes.NEXT, tab_shapes.DOUBTFUL, tab_shapes.ACCEPTED]


@pytest.fixture
def fake(store: Store) -> FakeStudio:
    projects.save(store, Project(P, "u", "t", "", CONFIG, label_config.parse(CONFIG)))
    return FakeStudio(0)


def read(store: Store, ids: list[int], unreadable: tuple[int, ...] = (), unread: tuple[int, ...] = ()) -> None:
    """Tasks in the store, predicted by the published version but for the unread ones."""
    rows = [Task(n, str(n), None if n in unreadable else f"text {n}", "no text" * (n in unreadable)) for n in ids]
    tasks.upsert(store, P, rows)
    probs = np.array([0.2, 0.7, 0.1])
    known = [row for row in rows if row.text and row.task_id not in unread]
    predicted = [StoredPrediction(row.task_id, row.text_key, "B", 0.7, probs) for row in known]
    versions.save(store, P, Version("v", 1, "published", 0), predicted)
    projects.change(store, P, published_version="v")


def keep(store: Store, fake: FakeStudio, *, make: bool = False) -> list[str]:
    return tabs.keep(store, cast("LabelStudioClient", fake), P, make=make)


def titles(fake: FakeStudio) -> list[str]:
    return [data["title"] for data in fake.tabs.values()]


def tab(fake: FakeStudio, title: str) -> dict[str, Any]:
    (data,) = (data for data in fake.tabs.values() if data["title"] == title)
    return data


def requests(fake: FakeStudio, work: Callable[[], Any]) -> int:
    """How many calls `work` makes."""
    fake.die_after = 1000
    work()
    return 1000 - fake.die_after


def test_they_are_made_once_and_after_the_page_s_own_first_tab(store: Store, fake: FakeStudio) -> None:
    assert len(keep(store, fake, make=True)) == 3
    assert titles(fake) == ["Default", *ALWAYS]
    assert keep(store, fake, make=True) == []
    assert titles(fake) == ["Default", *ALWAYS]


def test_keeping_them_costs_nothing_while_nothing_changes(store: Store, fake: FakeStudio) -> None:
    read(store, [1, 2, 3])
    assert requests(fake, lambda: keep(store, fake)) == 0  # connected by a release without tabs: it stays without
    keep(store, fake, make=True)
    assert requests(fake, lambda: keep(store, fake)) == 0
    projects.change(store, P, batch_version="v+batch-2")
    assert requests(fake, lambda: keep(store, fake)) == 0  # what `next` shows follows from the project's version
    projects.change(store, P, options={"audit_share": 0.1})
    assert requests(fake, lambda: keep(store, fake)) == 3  # one listing, and a change of two tabs


def test_a_list_shows_no_prediction_while_some_tasks_are_labelled_without(store: Store, fake: FakeStudio) -> None:
    def seen(title: str) -> bool:
        return "tasks:predictions_results" not in tab(fake, title)["hiddenColumns"]["explore"]

    keep(store, fake, make=True)
    assert [seen(title) for title in ALWAYS] == [True, True, False]
    projects.change(store, P, options={"blind_share": 0.2})
    tab(fake, tab_shapes.NEXT)["hiddenColumns"]["explore"].remove("tasks:created_at")  # a person shows another column
    keep(store, fake)
    assert [seen(title) for title in ALWAYS] == [False] * 3
    assert "tasks:created_at" not in tab(fake, tab_shapes.NEXT)["hiddenColumns"]["explore"]
    projects.change(store, P, options={})
    keep(store, fake)
    assert [seen(title) for title in ALWAYS] == [True, True, False]
    assert "tasks:predictions_results" in tab(fake, tab_shapes.NEXT)["hiddenColumns"]["labeling"]


def test_what_waits_and_what_cannot_be_read_has_a_tab_while_there_is_some(store: Store, fake: FakeStudio) -> None:
    def values(title: str) -> list[tuple[int, int]]:
        return [(item["value"]["min"], item["value"]["max"]) for item in tab(fake, title)["filters"]["items"]]

    read(store, [1, 2, 5, 7, 9, 10], unreadable=(2, 9), unread=(5, 7))
    keep(store, fake, make=True)
    assert values(tab_shapes.FAILED) == [(2, 2), (9, 9)]
    assert values(tab_shapes.QUEUED) == [(5, 7)]  # no task of the project lies between them
    assert tab(fake, tab_shapes.QUEUED)["filters"]["conjunction"] == "or"
    read(store, [1, 2, 5, 7, 9, 10], unreadable=(2,))
    keep(store, fake)
    assert titles(fake) == ["Default", *ALWAYS, tab_shapes.FAILED]
    assert values(tab_shapes.FAILED) == [(2, 2)]
    read(store, [1, 2], unread=(1, 2))
    keep(store, fake)
    assert titles(fake) == ["Default", *ALWAYS, tab_shapes.QUEUED]


@pytest.mark.parametrize("change", [
    {"title": "ours now"}, {"filters": {"conjunction": "and", "items": []}}, {"ordering": ["tasks:id"]},
])  # fmt: skip
def test_a_tab_that_a_person_has_changed_is_theirs(store: Store, fake: FakeStudio, change: dict[str, Any]) -> None:
    keep(store, fake, make=True)
    (number,) = (number for number, data in fake.tabs.items() if data["title"] == tab_shapes.NEXT)
    fake.tabs[number] |= change
    theirs = dict(fake.tabs[number])
    projects.change(store, P, options={"audit_share": 0.1})
    (line,) = keep(store, fake)
    assert "changed by somebody" in line
    assert requests(fake, lambda: keep(store, fake)) == 0  # said once
    said = tabs.remove(store, cast("LabelStudioClient", fake), P)
    assert len([line for line in said if "stays" in line]) == 1
    assert list(fake.tabs.values())[1:] == [theirs]


def test_a_wider_column_does_not_make_it_theirs(store: Store, fake: FakeStudio) -> None:
    keep(store, fake, make=True)
    for data in fake.tabs.values():
        data["columnsWidth"] = {"tasks:id": 99}
    tabs.remove(store, cast("LabelStudioClient", fake), P)
    assert titles(fake) == ["Default"]


def test_people_s_own_tab_stays_even_under_our_title(store: Store, fake: FakeStudio) -> None:
    theirs = {"title": tab_shapes.NEXT, "filters": {"conjunction": "and", "items": []}}
    fake.create_view(P, theirs)
    (line, *_) = keep(store, fake, make=True)
    assert "not made" in line
    assert titles(fake) == ALWAYS
    assert requests(fake, lambda: keep(store, fake)) == 0
    tabs.remove(store, cast("LabelStudioClient", fake), P)
    assert list(fake.tabs.values()) == [theirs]


def test_a_tab_that_a_person_has_deleted_comes_back_only_with_connect(store: Store, fake: FakeStudio) -> None:
    keep(store, fake, make=True)
    fake.tabs = {number: data for number, data in fake.tabs.items() if data["title"] != tab_shapes.DOUBTFUL}
    projects.change(store, P, options={"audit_share": 0.1})
    keep(store, fake)
    assert tab_shapes.DOUBTFUL not in titles(fake)
    keep(store, fake, make=True)
    assert titles(fake).count(tab_shapes.DOUBTFUL) == 1


@pytest.mark.parametrize("before_or_after", [False, True])
@pytest.mark.parametrize("calls", range(6))
def test_a_kill_in_the_middle_leaves_no_double_and_nothing_behind(
    store: Store, fake: FakeStudio, calls: int, before_or_after: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`before_or_after`: whether Label Studio had made the tab whose answer was lost."""
    read(store, [1, 2], unread=(2,))
    with monkeypatch.context() as patched:
        made = 0

        def create_view(project_id: int, data: dict[str, Any]) -> dict[str, Any]:
            nonlocal made
            made += 1
            dies = made > calls
            view = FakeStudio.create_view(fake, project_id, data) if before_or_after or not dies else {}
            if dies:
                raise KeyboardInterrupt
            return view

        patched.setattr(fake, "create_view", create_view)
        if calls < 5:
            with pytest.raises(KeyboardInterrupt):
                keep(store, fake, make=True)
        else:
            keep(store, fake, make=True)
    keep(store, fake, make=True)
    assert sorted(titles(fake)) == sorted(["Default", *ALWAYS, tab_shapes.QUEUED])
    tabs.remove(store, cast("LabelStudioClient", fake), P)
    assert titles(fake) == ["Default"]


def test_a_change_that_was_killed_stays_ours(store: Store, fake: FakeStudio, monkeypatch: pytest.MonkeyPatch) -> None:
    read(store, [1, 2, 3], unread=(2,))
    keep(store, fake, make=True)
    read(store, [1, 2, 3], unread=(3,))

    def dies(*call: Any) -> None:
        FakeStudio.patch_view(fake, *call)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(fake, "patch_view", dies)
        with pytest.raises(KeyboardInterrupt):
            keep(store, fake)
    read(store, [1, 2, 3], unread=(1,))
    assert keep(store, fake) == []
    (item,) = tab(fake, tab_shapes.QUEUED)["filters"]["items"]
    assert item["value"] == {"min": 1, "max": 1}


def test_a_job_goes_on_without_tabs(store: Store, fake: FakeStudio, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(project_id: int) -> list[dict[str, Any]]:
        raise LabelStudioError("views are off")

    keep(store, fake, make=True)
    projects.change(store, P, options={"audit_share": 0.1})
    monkeypatch.setattr(fake, "views", refused)
    runtime = cast("Runtime", SimpleNamespace(store=store, client=lambda: fake))
    for _ in range(2):
        jobs_tabs.keep(runtime, P)
    (said,) = events.newest(store, project_id=P)
    assert (said.kind, "views are off" in said.line) == ("problem", True)


def test_the_tab_of_earlier_releases_goes(store: Store, fake: FakeStudio) -> None:
    names = ("predictions_model_versions", "completed_at")
    items = [{"filter": f"filter:tasks:{name}", "operator": "x", "type": "y", "value": "z"} for name in names]
    fake.create_view(P, {"title": tabs.FORMER, "filters": {"conjunction": "and", "items": items}})
    fake.create_view(P, {"title": tabs.FORMER, "filters": {"conjunction": "and", "items": items[:1]}})
    keep(store, fake, make=True)
    assert titles(fake).count(tabs.FORMER) == 1
