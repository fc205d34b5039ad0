"""Connect a project, and disconnect it. The old value of each Label Studio setting is stored before it is changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any
from urllib.parse import urlsplit

from mollm.errors import ConfigError
from mollm_backend.labelstudio import label_config, show_why, tabs
from mollm_backend.labelstudio.client import LabelStudioClient, RemoteProject
from mollm_backend.labelstudio.controls import by_control, control_of
from mollm_backend.labelstudio.errors import (
    LabelStudioDown,
    LabelStudioError,
    LabelStudioNotFound,
    OtherProject,
    PrivateAddress,
)
from mollm_backend.labelstudio.events import SECRET_HEADER, WEBHOOK_ACTIONS
from mollm_backend.labelstudio.order import UNCERTAINTY, rehearse
from mollm_backend.labelstudio.publish import make_current
from mollm_backend.labelstudio.reconcile import reconcile
from mollm_backend.labelstudio.ssrf import flags_for
from mollm_backend.labelstudio.transport import JSON
from mollm_backend.settings import Settings
from mollm_backend.store import Store, projects
from mollm_backend.store.decisions import Decision
from mollm_backend.store.projects import Project

TITLE = "mollm"  # the ML backend's title; Label Studio also sets project.model_version to it


def connect(
    store: Store,
    client: LabelStudioClient,
    settings: Settings,
    project_id: int,
    backend_url: str,
    *,
    check_order: bool = True,
    why: bool | None = None,
    tell: Callable[[str], None] = lambda _line: None,
) -> Project:
    """Register the backend and our webhook, set the sampling, and read the labels that people have given already.

    `backend_url` is the backend's address as Label Studio sees it; the backend must be running. A second call repairs
    the connection: it updates what exists, and keeps the values that the first call stored for `disconnect`.
    `check_order` tests if this server serves a batch in its order; if it does not, people are sent to a tab. `why`:
    show why a task came on the labelling screen, by a field in the label config, or (False) no more; None: as it is.
    `tell` gets a line for each tab that is made.
    Raises ConfigError for an unsupported label config, LabelStudioError with the fix for a refused address.
    """
    backend_url = _checked(backend_url)
    remote = client.project(project_id)
    decisions = label_config.parse(remote.label_config)
    known = projects.find(store, project_id)
    if known is not None and known.ls_created_at != remote.created_at:
        raise ConfigError(
            f"Project {project_id} of {client.url} was made {remote.created_at}, but the store knows another one under "
            f"this number ({known.url}, made {known.ls_created_at}): use another MOLLM_HOME for another Label Studio."
        )
    found = (known.connection.get("found") if known else None) or _found(remote)
    project = Project(project_id, client.url, remote.title, remote.created_at, remote.label_config, decisions)
    if known is not None:
        # Keep the stored label config: if it differs, reconciliation reads all texts and labels again.
        project = replace(known, url=client.url, title=remote.title, connected=True)
    connection = {"backend_url": backend_url, "found": found, **_ids(known)}
    projects.save(store, replace(project, connection=connection))
    _register(store, client, settings, project_id, backend_url)
    release = client.version()
    if check_order and (connection.get("order") or {}).get("release") != release:
        _note(store, project_id, order=asdict(rehearse(client)) | {"release": release})
    if project.batch_version:
        make_current(client, project_id, project.batch_version)
    elif remote.sampling != UNCERTAINTY:
        client.patch_project(project_id, sampling=UNCERTAINTY)
    if why is not None:
        _show_why(client, remote, decisions, show=why)
    reconcile(store, client, project_id, full=True)
    for line in _kept_tabs(store, client, project_id):
        tell(line)
    return projects.get(store, project_id)


def _show_why(client: LabelStudioClient, remote: RemoteProject, decisions: Sequence[Decision], *, show: bool) -> None:
    """Add our field to the label config, or take it out."""
    config = show_why.without(remote.label_config)
    if show:
        if not any(control_of(rows).tag == "Choices" for rows in by_control(decisions)):
            raise ConfigError("--show-why needs a `Choices` in the label config: the words stand below what it shows.")
        config = show_why.added_to(config, decisions[0].sources[0].name)
    if config != remote.label_config:
        client.patch_project(remote.id, label_config=config)


def _kept_tabs(store: Store, client: LabelStudioClient, project_id: int) -> list[str]:
    """Make our tabs. Without them all else still works."""
    try:
        return tabs.keep(store, client, project_id, make=True)
    except LabelStudioDown:
        raise
    except LabelStudioError as error:
        return [f"the tabs are not made: {error}"]


def _checked(backend_url: str) -> str:
    parts = urlsplit(backend_url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise ConfigError(
            f"The backend's address is {backend_url!r}: give it as Label Studio sees it, such as "
            "http://192.168.1.5:9090 (`--backend-url` or MOLLM_BACKEND_URL)."
        )
    return backend_url.rstrip("/")


def _found(remote: RemoteProject) -> JSON:
    """The values that `disconnect` restores."""
    return {
        "sampling": remote.sampling,
        "model_version": remote.model_version,
        "show_collab_predictions": remote.show_predictions,
    }


def _ids(known: Project | None) -> JSON:
    keep = ("ml_backend", "webhook", "order", "tabs")
    return {key: known.connection[key] for key in keep if known and key in known.connection}


def _note(store: Store, project_id: int, **values: Any) -> None:
    connection = projects.get(store, project_id).connection | values
    projects.change(store, project_id, connection=connection)


def _register(store: Store, client: LabelStudioClient, settings: Settings, project_id: int, backend_url: str) -> None:
    """Add or update the ML backend and our webhook, and delete other webhooks to the same address."""
    backend_id = _ml_backend(store, client, settings, project_id, backend_url)
    _note(store, project_id, ml_backend=backend_id)
    webhook_id = _webhook(store, client, settings, project_id, backend_url)
    _note(store, project_id, webhook=webhook_id)
    for hook in client.webhooks(project_id):
        ours = hook["url"].rstrip("/") == f"{backend_url}/webhook"
        if hook["id"] != webhook_id and ours:
            # Label Studio adds one with each ML backend. It sends no secret, so our server refuses its events.
            client.delete_webhook(hook["id"])


def _ml_backend(store: Store, client: LabelStudioClient, settings: Settings, project_id: int, backend_url: str) -> int:
    values = {
        "url": backend_url, "title": TITLE, "project": project_id, "is_interactive": False, "auth_method": "BASIC_AUTH",
        "basic_auth_user": settings.basic_auth_user,
        "basic_auth_pass": settings.basic_auth_password.get_secret_value(),
    }  # fmt: skip
    noted = projects.get(store, project_id).connection.get("ml_backend")
    rows = client.ml_backends(project_id)
    mine = [row for row in rows if row["id"] == noted or row["url"].rstrip("/") == backend_url]
    for row in mine[1:]:
        client.delete_ml_backend(row["id"])
    if mine:
        client.patch_ml_backend(mine[0]["id"], **values)
        return int(mine[0]["id"])
    try:
        return int(client.create_ml_backend(**values)["id"])
    except PrivateAddress as error:
        # With only ML_BLOCK_LOCAL_IP=false, Label Studio adds the backend and then refuses the webhook.
        half = [row["id"] for row in client.ml_backends(project_id) if row["url"].rstrip("/") == backend_url]
        if half:
            _note(store, project_id, ml_backend=half[0])
        raise _private(backend_url, half=bool(half)) from error
    except LabelStudioError as error:
        if "health check failed" not in str(error):
            raise
        raise LabelStudioError(
            f"Label Studio at {client.url} reaches no backend at {backend_url}",
            "start it with `mollm up` (MOLLM_HOST=0.0.0.0 set where Label Studio is on another machine) and give the "
            "address that it has for Label Studio as `--backend-url`",
        ) from error


def _private(backend_url: str, *, half: bool) -> LabelStudioError:
    what = (
        "Label Studio took the backend but makes no webhook to it (ML_BLOCK_LOCAL_IP=false alone does this), so "
        "nothing that people do would arrive"
        if half
        else f"Label Studio does not talk to {backend_url}, a private address"
    )
    return LabelStudioError(f"{what}. {flags_for(backend_url)}")


def _webhook(store: Store, client: LabelStudioClient, settings: Settings, project_id: int, backend_url: str) -> int:
    values = {
        "url": f"{backend_url}/webhook", "project": project_id, "send_payload": True, "send_for_all_actions": False,
        "actions": list(WEBHOOK_ACTIONS), "headers": {SECRET_HEADER: settings.webhook_secret.get_secret_value()},
        "is_active": True,
    }  # fmt: skip
    noted = projects.get(store, project_id).connection.get("webhook")
    if noted is not None and any(hook["id"] == noted for hook in client.webhooks(project_id)):
        client.patch_webhook(noted, **{key: value for key, value in values.items() if key != "project"})
        return int(noted)
    try:
        return int(client.create_webhook(**values)["id"])
    except PrivateAddress as error:
        raise _private(backend_url, half=True) from error


def disconnect(store: Store, client: LabelStudioClient, project_id: int) -> tuple[str, ...]:
    """Remove the backend and the webhook, and restore what `connect` found; predictions and labels are kept.

    Returns one line for each thing that was done. A value that a person has changed since then is not restored. Of a
    project that was deleted in Label Studio nothing is left to restore. Raises OtherProject on another server.
    """
    project = projects.get(store, project_id)
    connection = project.connection
    lines: list[str] = []
    try:
        remote = client.project(project_id)
    except LabelStudioNotFound as error:
        if project.url != client.url:
            raise OtherProject(
                f"Project {project_id} is on {project.url}, not on {client.url}: set LABEL_STUDIO_URL to its server."
            ) from error
        projects.change(store, project_id, connected=False, connection={})
        return (f"project {project_id} is not on {client.url} any more: there is nothing to put back there",)
    if "webhook" in connection:
        client.delete_webhook(connection["webhook"])
        lines.append(f"removed the webhook {connection['webhook']}")
    if "ml_backend" in connection:
        client.delete_ml_backend(connection["ml_backend"])
        lines.append(f"removed the ML backend {connection['ml_backend']}")
    lines += tabs.remove(store, client, project_id)
    for key, value in _restored(remote, project).items():
        try:
            client.patch_project(project_id, **{key: value})
            said = "what it was without our field" if key == "label_config" else repr(value)
            lines.append(f"set {key} back to {said}")
        except LabelStudioDown:
            raise
        except LabelStudioError as error:
            lines.append(f"{key} stays as it is: {error}")
    projects.change(store, project_id, connected=False, connection={})
    return tuple(lines)


def _restored(remote: RemoteProject, project: Project) -> JSON:
    """The values to restore: they are still as connect and publish set them, and were different before."""
    found = project.connection.get("found") or {}
    change: JSON = {}
    if show_why.shows(remote.label_config):
        change["label_config"] = show_why.without(remote.label_config)
    if remote.sampling == UNCERTAINTY and found.get("sampling", UNCERTAINTY) != UNCERTAINTY:
        change["sampling"] = found["sampling"]
    ours = (project.batch_version, TITLE)
    if remote.model_version in ours and found.get("model_version", "") != remote.model_version:
        change["model_version"] = found.get("model_version", "")
    if remote.show_predictions and found.get("show_collab_predictions") is False:
        change["show_collab_predictions"] = False
    return change
