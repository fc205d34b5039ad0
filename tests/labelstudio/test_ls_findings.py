"""The doctor's other findings, each by making its fault on a real Label Studio or on the way to it."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pytest

from mollm_backend.doctor import label_studio
from mollm_backend.doctor.label_studio import examine
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.connect import connect, disconnect
from mollm_backend.labelstudio.errors import LabelsWouldVanish
from mollm_backend.labelstudio.reconcile import reconcile
from mollm_backend.settings import Settings
from mollm_backend.store import Store, projects
from tests.labelstudio.proxy import Answer, proxied
from tests.labelstudio.test_ls_doctor import names
from tests.real_label_studio import RealLabelStudio

MakeProject = Callable[..., tuple[int, list[int]]]
GREEN = [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": ["g"]}}]


def test_every_finding_is_made_by_some_test() -> None:
    made = re.findall(r'(?:problem|notice)\(\s*"([a-z-]+)"', Path(label_studio.__file__).read_text())
    tests = "".join(path.read_text() for path in Path(__file__).parent.glob("test_ls_*.py"))
    assert len(set(made)) > 20
    assert [name for name in set(made) if f'"{name}"' not in tests] == []


@pytest.mark.label_studio
def test_a_backend_that_only_we_reach(
    store: Store, client: LabelStudioClient, settings: Settings, project: int, recorder: Any
) -> None:
    recorder.deaf_to = "heartex"  # what Label Studio calls with; we come with another
    found = examine(store, client, settings, project)
    assert names(found) == {"back-route"}
    (finding,) = [row for row in found if row.name == "back-route"]
    assert "USER_ADDITIONAL_BANNED_SUBNETS" in finding.fix
    recorder.deaf_to = ""
    assert names(examine(store, client, settings, project)) == set()


@pytest.mark.label_studio
def test_a_backend_row_that_somebody_changed(
    store: Store, client: LabelStudioClient, settings: Settings, project: int, recorder: Any
) -> None:
    row = projects.get(store, project).connection["ml_backend"]
    client.patch_ml_backend(row, auth_method="NONE", is_interactive=True, project=project, url=recorder.url)
    client.create_ml_backend(url=f"{recorder.url}/another", title="another", project=project)
    found = examine(store, client, settings, project)
    assert names(found) == {"backend-auth"}
    assert {"interactive", "several-backends"} <= names(found, "notice")
    connect(store, client, settings, project, recorder.url, check_order=False)
    found = examine(store, client, settings, project)
    assert (names(found), "interactive" in names(found, "notice")) == (set(), False)


@pytest.mark.label_studio
def test_several_people(
    store: Store, client: LabelStudioClient, studio: RealLabelStudio, settings: Settings, project: int
) -> None:
    assert "members" not in names(examine(store, client, settings, project), "notice")
    person = {"email": f"second-{project}@example.com", "username": "second", "password": "a-long-enough-password"}
    made = client._raw("a second person", "POST", "api/users/", body=person)
    try:
        assert "members" in names(examine(store, client, settings, project), "notice")
    finally:
        client._gone("and away", f"api/users/{made['id']}/")


@pytest.mark.label_studio
def test_labels_that_would_vanish_and_tasks_without_text(
    store: Store, client: LabelStudioClient, settings: Settings, project: int
) -> None:
    ids = [task.id for task in client.tasks(project)]
    for task in ids[:6]:
        client.submit(task, GREEN)
    client._raw("empty", "PATCH", f"api/tasks/{ids[7]}/", body={"data": {"text": " "}})
    reconcile(store, client, project)
    assert "unreadable" in names(examine(store, client, settings, project), "notice")
    for task in ids[:6]:
        client._gone("gone", f"api/tasks/{task}/")
    with pytest.raises(LabelsWouldVanish):
        reconcile(store, client, project)
    found = examine(store, client, settings, project)
    assert names(found) == {"attention"}
    assert "--accept-loss" in next(row.fix for row in found if row.name == "attention")


@pytest.mark.label_studio
def test_a_lost_store_leaves_an_orphan_and_a_disconnected_project_is_told(
    store: Store, client: LabelStudioClient, settings: Settings, project: int, tmp_path: Path
) -> None:
    hook = projects.get(store, project).connection["webhook"]
    with closing(Store(f"sqlite:///{tmp_path / 'another.db'}")) as fresh:
        found = examine(fresh, client, settings)
    assert names(found) == {"not-connected"}
    assert any(f"webhook {hook} " in row.line for row in found if row.name == "orphan-webhook")
    disconnect(store, client, project)
    found = examine(store, client, settings, project)
    assert names(found) == {"not-connected"}
    assert not any(f"webhook {hook} " in row.line for row in found)


@pytest.mark.label_studio
def test_an_old_release_and_a_clock_that_is_off(store: Store, studio: RealLabelStudio, settings: Settings) -> None:
    """By a proxy: neither the release nor the clock of the real server can be set."""

    def older(answer: Answer) -> None:
        answer.headers["date"] = format_datetime(datetime.now(UTC) + timedelta(minutes=10), usegmt=True)
        if answer.path.startswith("/api/version"):
            answer.json = answer.json | {"release": "1.13.1"}

    with proxied(studio.url, older) as address, closing(LabelStudioClient(address, studio.token)) as client:
        found = examine(store, client, settings)
    assert {"version", "clock"} <= names(found, "notice")
    assert "1.13.1" in next(row.line for row in found if row.name == "version")
    (apart,) = re.findall(r"(\d+) s apart", next(row.line for row in found if row.name == "clock"))
    assert 60 < int(apart) <= 600  # less what passed until we looked


@pytest.mark.label_studio
def test_a_server_that_fails_halfway_and_one_that_serves_another_order(
    store: Store, studio: RealLabelStudio, settings: Settings, recorder: Any, make_project: MakeProject
) -> None:
    """By a proxy: the real server does neither."""
    broken: list[str] = []

    def change(answer: Answer) -> None:
        if answer.path.endswith("/next"):
            answer.json = answer.json | {"id": 0}
        if any(part in answer.path for part in broken):
            answer.status, answer.body = 500, b"{}"

    number, _ = make_project(3)
    with proxied(studio.url, change) as address, closing(LabelStudioClient(address, studio.token)) as client:
        connect(store, client, settings, number, recorder.url)
        found = examine(store, client, settings, number)
        assert "order-rehearsal" in names(found, "notice")
        broken.append("/api/ml/")
        assert names(examine(store, client, settings, number)) == {"project"}
