"""One real Label Studio a session, a tiny backend that records what it is sent, and a store a test."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from mollm.store import Store
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.settings import Settings
from tests.real_label_studio import RealLabelStudio, executable, label_studio

# A busy machine must not lose an event: by default Label Studio gives up after a second.
PATIENT = {"WEBHOOK_TIMEOUT": "60"}
CONFIG = (
    '<View><Text name="text" value="$text"/><Choices name="label" toName="text" choice="single-radio">'
    '<Choice value="Red"/><Choice value="Green" alias="g"/><Choice value="Blue"/></Choices></View>'
)


@pytest.fixture(scope="session")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealLabelStudio]:
    if not executable().exists():
        reason = f"no Label Studio at {executable()}: set MOLLM_LABEL_STUDIO to its executable"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
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

    def __init__(self) -> None:
        self.requests: list[tuple[str, dict[str, str], Any]] = []
        self.deaf_to = ""  # callers of this kind are hung up on, as a firewall between the two would
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                length = int(self.headers.get("Content-Length") or 0)
                if recorder.deaf_to and recorder.deaf_to in self.headers.get("User-Agent", ""):
                    self.close_connection = True
                    return
                body = json.loads(self.rfile.read(length)) if length else None
                recorder.requests.append((self.path, dict(self.headers), body))
                answers = {"/setup": {"model_version": "mollm-waiting"}, "/health": {"status": "UP"}}
                content = json.dumps(answers.get(self.path, {"results": [{}]})).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = _answer

            def log_message(self, *_args: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def events(self) -> list[tuple[dict[str, str], Any]]:
        return [(headers, body) for path, headers, body in self.requests if path == "/webhook"]


@pytest.fixture
def recorder() -> Iterator[Recorder]:
    recorder = Recorder()
    recorder.thread.start()
    yield recorder
    recorder.server.shutdown()
    recorder.server.server_close()
    recorder.thread.join()


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
