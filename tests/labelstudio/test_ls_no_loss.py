"""A reconciliation against a wrong address, a restored backup, half a page: no label is lost."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.connect import connect
from mollm_backend.labelstudio.errors import LabelStudioError, LabelsWouldVanish, OtherProject
from mollm_backend.labelstudio.reconcile import reconcile
from mollm_backend.settings import Settings
from mollm_backend.store import Store, labels, projects, tasks
from tests.labelstudio.proxy import Answer, proxied
from tests.real_label_studio import RealLabelStudio, label_studio

pytestmark = [pytest.mark.label_studio, pytest.mark.faults]
MakeProject = Callable[..., tuple[int, list[int]]]
GREEN = [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": ["g"]}}]
LABELLED, TASKS = 20, 30


@pytest.fixture
def project(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Any, make_project: MakeProject
) -> int:
    number, ids = make_project(TASKS)
    connect(store, client, settings, number, recorder.url, check_order=False)
    for task in ids[:LABELLED]:
        client.submit(task, GREEN)
    reconcile(store, client, number)
    assert kept(store, number) == (LABELLED, TASKS)
    return number


def kept(store: Store, project: int) -> tuple[int, int]:
    return len(labels.every(store, project)), len(tasks.every(store, project))


def held(store: Store, project: int) -> str:
    labelled, there = kept(store, project)
    return f"{labelled} labels on {there} tasks kept, lost 0"


@contextmanager
def through(store: Store, url: str, project: int, change: Callable[[Answer], None]) -> Iterator[LabelStudioClient]:
    """A client through a proxy that the store believes to be the server."""
    with proxied(url, change) as address, closing(LabelStudioClient(address, "test-token-of-a-throwaway-server")) as it:
        projects.change(store, project, url=address)
        yield it


def test_the_wrong_address(store: Store, studio: RealLabelStudio, recorder: Any, project: int) -> None:
    """Another way to the same server, another server, and something that is no Label Studio."""
    with (
        proxied(studio.url, lambda _answer: None) as address,
        closing(LabelStudioClient(address, studio.token)) as other,
        pytest.raises(OtherProject),
    ):
        reconcile(store, other, project)
    with closing(LabelStudioClient(recorder.url, studio.token)) as no_studio, pytest.raises(LabelStudioError):
        reconcile(store, no_studio, project)
    assert kept(store, project) == (LABELLED, TASKS)
    print(f"a proxy's address and no Label Studio at all: refused; {held(store, project)}")


def back_up(source: Path, target: Path) -> None:
    """A copy of a Label Studio's data directory, its database whole even while the server runs."""
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.sqlite3*", "*.log"))
    with (
        closing(sqlite3.connect(source / "label_studio.sqlite3")) as live,
        closing(sqlite3.connect(target / "label_studio.sqlite3")) as copy,
    ):
        live.backup(copy)


@pytest.mark.parametrize("more", [3, 12], ids=["a few labels younger than it", "many labels younger than it"])
def test_a_restored_backup(
    more: int, store: Store, client: LabelStudioClient, studio: RealLabelStudio, project: int, tmp_path: Path
) -> None:
    """The server comes back as it was some labels ago: above a fifth it asks, and tombstones are no loss below it."""
    back_up(studio.directory, tmp_path / "studio")
    for task in client.tasks(project):
        if not task.annotations and more:
            client.submit(task.id, GREEN)
            more -= 1
            if not more:
                break
    reconcile(store, client, project)
    before, _ = kept(store, project)
    with label_studio(tmp_path / "studio") as old, closing(LabelStudioClient(old.url, old.token)) as restored:
        projects.change(store, project, url=old.url)  # at the same address, as far as the store knows
        if before - LABELLED > 3:
            # Ten tasks had no label: all of them were labelled after the backup.
            with pytest.raises(LabelsWouldVanish, match=f"{before - LABELLED} of {before} labels"):
                reconcile(store, restored, project, full=True)
            assert kept(store, project) == (before, TASKS)
            assert "accept-loss" in projects.get(store, project).attention
        else:
            reconcile(store, restored, project, full=True)
            assert kept(store, project) == (LABELLED, TASKS)
    projects.change(store, project, url=client.url)
    reconcile(store, client, project, full=True)  # the newer data comes back: nothing was deleted for good
    assert kept(store, project) == (before, TASKS)
    how = "asked first" if before - LABELLED > 3 else "tombstoned"
    print(f"a backup {before - LABELLED} labels old: {how}; with the newer data back {held(store, project)}")


def half_of_the_tasks(answer: Answer) -> None:
    """Every page of the listing without its second half; the total stays."""
    if answer.path.startswith("/api/tasks/?"):
        page = answer.json
        answer.json = page | {"tasks": page["tasks"][: len(page["tasks"]) // 2]}


def half_a_total(answer: Answer) -> None:
    """The listing's first half, and a total that agrees with it."""
    if answer.path.startswith("/api/tasks/?"):
        rows = answer.json["tasks"][: len(answer.json["tasks"]) // 2]
        answer.json = answer.json | {"tasks": rows, "total": len(rows)}


def half_of_the_export(answer: Answer) -> None:
    """The annotations of every second task are left out of an export."""
    if "/export?" in answer.path:
        answer.json = answer.json[::2]


def one_task_left_out_of_the_export(answer: Answer) -> None:
    if "/export?" in answer.path:
        answer.json = answer.json[1:]


def half_of_an_answer(answer: Answer) -> None:
    """The line breaks in the middle of a listing or an export."""
    if answer.path.startswith("/api/tasks/?") or "/export?" in answer.path:
        answer.cut = len(answer.body) // 2


def counters_set_back(answer: Answer) -> None:
    """What Label Studio says while predictions are imported beside a Submit: the task's counter is 0 all the same."""
    if answer.path.startswith("/api/tasks/?"):
        rows = [row | {"total_annotations": 0} for row in answer.json["tasks"]]
        answer.json = answer.json | {"tasks": rows}


def test_a_label_whose_counter_was_set_back_is_seen(
    store: Store, client: LabelStudioClient, studio: RealLabelStudio, project: int
) -> None:
    free = next(task.id for task in client.tasks(project) if not task.annotations)
    with through(store, studio.url, project, counters_set_back) as wrong:
        client.submit(free, GREEN)
        reconcile(store, wrong, project)
        assert kept(store, project) == (LABELLED + 1, TASKS)


def an_empty_list(answer: Answer) -> None:
    if answer.path.startswith("/api/tasks/?"):
        answer.json = answer.json | {"tasks": [], "total": 0}


@pytest.mark.parametrize(
    "fault",
    [half_of_the_tasks, half_a_total, half_of_the_export, one_task_left_out_of_the_export, half_of_an_answer,
     an_empty_list],
)  # fmt: skip
def test_half_a_page(
    fault: Callable[[Answer], None], store: Store, client: LabelStudioClient, studio: RealLabelStudio, project: int
) -> None:
    with through(store, studio.url, project, fault) as broken:
        for full in (False, True):
            # Touched, so that the next pass reads the annotations of these tasks again.
            for row in labels.every(store, project)[:LABELLED:3]:
                client._raw("touch", "PATCH", f"api/annotations/{row.annotation_id}/", body={"lead_time": 3.0})
            try:
                reconcile(store, broken, project, full=full)
            except LabelStudioError as error:
                said = str(error)
                assert said
            assert kept(store, project) == (LABELLED, TASKS)
    projects.change(store, project, url=client.url)
    reconcile(store, client, project, full=True)
    assert kept(store, project) == (LABELLED, TASKS)
    assert projects.get(store, project).attention == ""
    print(f"{fault.__name__.replace('_', ' ')}, in a quick and a full pass: {held(store, project)} after each")
