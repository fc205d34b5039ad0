"""One real Label Studio a session, a tiny backend that records what it is sent, and a store a test."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.connect import connect
from mollm_backend.settings import Settings
from mollm_backend.store import Store
from tests.conftest import absent
from tests.real_label_studio import RealLabelStudio, executable, label_studio
from tests.serving import Handler, serving

# A busy machine must not lose an event: by default Label Studio gives up after a second.
PATIENT = {"WEBHOOK_TIMEOUT": "60"}
CONFIG = (
    '<View><Text name="text" value="$text"/><Choices name="label" toName="text" choice="single-radio">'
    '<Choice value="Red"/><Choice value="Green" alias="g"/><Choice value="Blue"/></Choices></View>'
)


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealLabelStudio]:
    if not executable().exists():
        absent(f"no Label Studio at {executable()}: set MOLLM_LABEL_STUDIO to its executable")
    # A kept data directory saves the minute in which the first start makes the database.
    kept = os.environ.get("MOLLM_LABEL_STUDIO_DATA")
    with label_studio(Path(kept) if kept else tmp_path_factory.mktemp("label-studio"), PATIENT) as running:
        yield running


@pytest.fixture(scope="session")
def client(studio: RealLabelStudio) -> Iterator[LabelStudioClient]:
    client = LabelStudioClient(studio.url, studio.token)
    yield client
    client.close()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(f"sqlite:///{tmp_path / 'store.db'}")
    yield store
    store.close()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(
        home=tmp_path, basic_auth_password=SecretStr("basic-secret"), webhook_secret=SecretStr("hook-secret")
    )


class Recorder:
    """A backend that answers as Label Studio expects, and keeps (path, headers, body) of every request."""

    url = ""

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.deaf_to = ""  # callers of this kind are hung up on, as a firewall between the two would

    def handler(self) -> type[Handler]:
        recorder = self

        class Backend(Handler):
            def _keep(self) -> None:
                if recorder.deaf_to and recorder.deaf_to in self.headers.get("User-Agent", ""):
                    self.close_connection = True
                    return
                body = json.loads(self.body() or b"null")
                recorder.requests.append((self.path, dict(self.headers), body))
                answers = {"/setup": {"model_version": "mollm-waiting"}, "/health": {"status": "UP"}}
                self.answer(json.dumps(answers.get(self.path, {"results": [{}]})).encode())

            do_GET = do_POST = _keep

        return Backend

    def events(self) -> list[tuple[dict[str, str], Any]]:
        return [(headers, body) for path, headers, body in self.requests if path == "/webhook"]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    with serving(recorder.handler()) as recorder.url:
        yield recorder


@pytest.fixture
def make_project(client: LabelStudioClient) -> Callable[..., tuple[int, list[int]]]:
    """Make a project with `n` tasks; returns its id and theirs."""

    def make(n: int = 6, config: str = CONFIG) -> tuple[int, list[int]]:
        made = client._raw("create", "POST", "api/projects/", body={"title": "a test", "label_config": config})
        rows = [{"text": f"text number {i}"} for i in range(n)]
        answer = client._raw(
            "import", "POST", f"api/projects/{made['id']}/import", params={"return_task_ids": True}, body=rows
        )
        return made["id"], sorted(answer["task_ids"])

    return make


@pytest.fixture
def project(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Recorder,
    make_project: Callable[..., tuple[int, list[int]]],
) -> int:  # fmt: skip
    """A connected project of eight tasks, whose backend is the recorder."""
    number, _ = make_project(8)
    connect(store, client, settings, number, recorder.url, check_order=False)
    return number
