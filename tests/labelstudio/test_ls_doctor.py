"""Each finding of the doctor, by making its fault on a real Label Studio."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest
from pydantic import SecretStr

from mollm_backend.doctor.finding import Finding
from mollm_backend.doctor.label_studio import examine
from mollm_backend.labelstudio import order, publish
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.connect import TITLE, connect, disconnect
from mollm_backend.labelstudio.errors import LabelStudioError
from mollm_backend.labelstudio.events import SECRET_HEADER, WEBHOOK_ACTIONS
from mollm_backend.settings import Settings
from mollm_backend.store import Store, batches, projects
from mollm_backend.store.batches import StoredEntry
from tests.real_label_studio import RealLabelStudio, free_port, label_studio

pytestmark = pytest.mark.label_studio
MakeProject = Callable[..., tuple[int, list[int]]]


def names(found: list[Finding], kind: str = "problem") -> set[str]:
    assert all(finding.line and (finding.fix or finding.kind == "fine") for finding in found)
    return {finding.name for finding in found if finding.kind == kind}


def test_a_good_connection_has_no_problem(
    store: Store, client: LabelStudioClient, settings: Settings, project: int
) -> None:
    assert names(examine(store, client, settings, project)) == set()


def test_faults_of_the_webhook(store: Store, client: LabelStudioClient, settings: Settings, project: int) -> None:
    hook = projects.get(store, project).connection["webhook"]
    url = projects.get(store, project).connection["backend_url"]
    client.patch_webhook(hook, headers={}, actions=list(WEBHOOK_ACTIONS))
    assert names(examine(store, client, settings, project)) == {"webhook-header"}
    client.patch_webhook(hook, is_active=False, actions=["TASKS_CREATED"], url=f"{url}/other")
    found = names(examine(store, client, settings, project))
    assert found == {"webhook-header", "webhook-off", "webhook-actions", "webhook-url"}
    client.delete_webhook(hook)
    assert names(examine(store, client, settings, project)) == {"no-webhook"}
    client.create_webhook(url=f"{url}/webhook", project=project, headers={SECRET_HEADER: "old"})
    found = examine(store, client, settings, project)
    assert names(found) == {"no-webhook", "second-webhook"}
    assert "orphan-webhook" in names(found, "notice")
    connect(store, client, settings, project, url, check_order=False)  # what each fix says
    assert names(examine(store, client, settings, project)) == set()


def test_faults_of_the_backend_row(
    store: Store, client: LabelStudioClient, settings: Settings, project: int, recorder: Any
) -> None:
    row = projects.get(store, project).connection["ml_backend"]
    client.patch_project(project, model_version=TITLE)
    projects.change(store, project, batch_version="b1")
    assert names(examine(store, client, settings, project)) == {"live-backend"}
    projects.change(store, project, batch_version=None)
    client.delete_ml_backend(row)
    assert "no-backend" in names(examine(store, client, settings, project))
    connect(store, client, settings, project, recorder.url, check_order=False)
    projects.change(
        store, project, connection=projects.get(store, project).connection | {"backend_url": "http://127.0.0.1:9"}
    )
    assert {"backend-down", "backend-url", "webhook-url"} <= names(examine(store, client, settings, project))


def test_connecting_a_backend_that_nobody_serves_says_how_to_start_it(
    store: Store, client: LabelStudioClient, settings: Settings, make_project: MakeProject
) -> None:
    number, _ = make_project(1)
    url = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(LabelStudioError, match=rf"reaches no backend at {url}: start it with `mollm up`"):
        connect(store, client, settings, number, url, check_order=False)
    down = {"backend-down", "no-backend", "no-webhook"}
    found = examine(store, client, settings, number)
    assert names(found) == down
    assert "BANNED_SUBNETS" not in "".join(row.fix for row in found)  # that is not what is wrong


def test_a_project_that_was_disconnected_on_purpose_is_a_problem_only_where_it_is_named(
    store: Store, client: LabelStudioClient, settings: Settings, project: int, recorder: Any, make_project: MakeProject
) -> None:
    other, _ = make_project(1)
    connect(store, client, settings, other, recorder.url, check_order=False)
    disconnect(store, client, other)
    assert names(examine(store, client, settings)) == set()
    assert names(examine(store, client, settings, other)) == {"not-connected"}
    disconnect(store, client, project)
    assert names(examine(store, client, settings)) == {"not-connected"}


def test_a_stream_that_does_not_serve_the_batch(
    store: Store, client: LabelStudioClient, settings: Settings, project: int
) -> None:
    task = next(iter(client.tasks(project))).id
    batches.save(store, project, "b1", [StoredEntry(task, 0, "v1", "g", 0.5, "margin")])
    publish.publish_batch(store, client, project, "b1")
    projects.change(store, project, batch_version="b1")
    assert names(examine(store, client, settings, project)) == set()
    for change in ({"sampling": "Sequential sampling"}, {"model_version": TITLE}, {"maximum_annotations": 3}):
        client.patch_project(project, **change)
        assert names(examine(store, client, settings, project)) == {
            "live-backend" if TITLE in change.values() else "order"
        }
        client.patch_project(project, sampling=order.UNCERTAINTY, model_version="b1", maximum_annotations=1)


def test_a_changed_or_unusable_config(
    store: Store, client: LabelStudioClient, settings: Settings, project: int
) -> None:
    config = client.project(project).label_config
    client.patch_project(project, label_config=config.replace('value="Red"', 'value="Crimson"'))
    assert "label-config-changed" in names(examine(store, client, settings, project), "notice")
    client.patch_project(project, label_config=config.replace('choice="single-radio"', 'perRegion="true"'))
    assert names(examine(store, client, settings, project)) == {"label-config"}


def test_another_project_or_none(store: Store, client: LabelStudioClient, settings: Settings, project: int) -> None:
    projects.change(store, project, ls_created_at="2001-01-01T00:00:00Z")
    assert names(examine(store, client, settings, project)) == {"other-project"}
    client._gone("delete", f"api/projects/{project}/")
    assert names(examine(store, client, settings, project)) == {"project-gone"}


def test_no_server_and_wrong_tokens(store: Store, studio: RealLabelStudio, settings: Settings) -> None:
    with closing(LabelStudioClient(f"http://127.0.0.1:{free_port()}", "x")) as down:
        assert names(examine(store, down, settings)) == {"server"}
    with closing(LabelStudioClient(studio.url, "secret-wrong-token")) as wrong:
        found = examine(store, wrong, settings)
    assert names(found) == {"token"}
    assert "legacy" in found[0].line
    assert "secret-wrong-token" not in repr(found)


@pytest.mark.filterwarnings("ignore:The `parse_obj` method is deprecated")  # in the SDK's exchange of the token
def test_personal_access_tokens_valid_and_expired(
    store: Store, client: LabelStudioClient, studio: RealLabelStudio, settings: Settings
) -> None:
    import jwt

    client._raw(
        "allow", "POST", "api/jwt/settings", body={"api_tokens_enabled": True, "legacy_api_tokens_enabled": True}
    )
    made = client._raw("make", "POST", "api/token/", body={})
    personal = LabelStudioClient(studio.url, made["token"])
    found = examine(store, personal, settings)
    assert "personal access" in found[0].line
    assert names(found) == {"not-connected"}
    allow = {"api_tokens_enabled": True, "legacy_api_tokens_enabled": False}
    personal._raw("switch legacy off", "POST", "api/jwt/settings", body=allow)
    try:
        found = examine(store, client, settings)
    finally:
        personal._raw("and on", "POST", "api/jwt/settings", body=allow | {"legacy_api_tokens_enabled": True})
        client._raw("revoke", "POST", "api/token/blacklist/", body={"refresh": made["token"]})
        personal.close()
    assert names(found) == {"token"}
    assert "disabled for this organization" in found[0].line
    old = jwt.encode({"exp": int(time.time()) - 10, "token_type": "refresh"}, "k" * 32)
    found = examine(store, LabelStudioClient(studio.url, old), settings)
    assert names(found) == {"token"}
    assert "expired" in found[0].line


@pytest.mark.parametrize("guard", [{}, {"ML_BLOCK_LOCAL_IP": "false"}], ids=["default", "half-connected"])
def test_private_addresses_under_the_default_guard(
    guard: dict[str, str],
    store: Store,
    studio: RealLabelStudio,
    settings: Settings,
    recorder: Any,
    make_project: Callable[..., tuple[int, list[int]]],
) -> None:
    number, _ = make_project(2)
    flags = {"USE_DEFAULT_BANNED_SUBNETS": "true", "USER_ADDITIONAL_BANNED_SUBNETS": ""} | guard
    with (
        label_studio(studio.directory, flags) as guarded,
        closing(LabelStudioClient(guarded.url, guarded.token)) as client,
    ):
        with pytest.raises(LabelStudioError, match=r"USER_ADDITIONAL_BANNED_SUBNETS=169\.254\.0\.0/16") as refused:
            connect(store, client, settings, number, recorder.url)
        assert "127.0.0.0/8" not in str(refused.value).split("SUBNETS=")[-1]
        found = examine(store, client, settings, number)
        expected = {"no-webhook"} if guard else {"no-backend", "no-webhook"}
        assert names(found) == expected
        assert all("USE_DEFAULT_BANNED_SUBNETS=false" in row.fix for row in found if row.kind == "problem")


def test_no_secret_is_ever_shown(store: Store, client: LabelStudioClient, settings: Settings, project: int) -> None:
    odd = settings.model_copy(update={"webhook_secret": SecretStr("another-secret")})
    found = examine(store, client, odd, project)
    assert names(found) == {"webhook-header"}
    for secret in ("another-secret", "hook-secret", "basic-secret"):
        assert secret not in repr(found)
