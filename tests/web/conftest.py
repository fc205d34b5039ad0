"""A browser that is signed in, on the app of one project with a version, and a worker that does what is queued."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable
from typing import Any, cast

import pytest
import redis
from flask import Flask
from rq.serializers import JSONSerializer
from werkzeug.test import Client, TestResponse

from mollm_backend import jobs
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.jobs.worker import Worker
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.settings import Settings
from mollm_backend.store import Store, events, projects
from mollm_backend.work import queues
from tests.backend.conftest import add_texts, app, connection, queue_url, settings, store  # noqa: F401 - fixtures
from tests.labelstudio.test_ls_publish import FakePages

BASIC = {"Authorization": "Basic " + b64encode(b"mollm:pass").decode()}
HTML = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


class Browser:
    """Asks as a browser does, and presses the buttons of a project's page."""

    def __init__(self, served: Flask) -> None:
        self._client: Client = served.test_client()

    def get(self, path: str, **headers: str) -> TestResponse:
        return self._client.get(path, headers=BASIC | HTML | headers)

    def token(self) -> str:
        """The token that stands in the forms of the page of project 7."""
        found = re.search(r'name="csrf" value="([^"]+)"', self.get("/projects/7").text)
        assert found is not None
        return found[1]

    def press(
        self, action: str, project: int = 7, headers: dict[str, str] | None = None, **fields: str
    ) -> TestResponse:
        """Send a form of the page, with its token unless `csrf` is given."""
        data = {"csrf": fields.pop("csrf", None) or self.token()} | fields
        return self._client.post(f"/projects/{project}/{action}", data=data, headers=BASIC | HTML | (headers or {}))


@pytest.fixture
def browser(app: Flask) -> Browser:  # noqa: F811 - the fixture
    return Browser(app)


@pytest.fixture
def runtime(settings: Settings, store: Store, connection: redis.Redis) -> Runtime:  # noqa: F811
    """A worker's, with a Label Studio that takes predictions."""
    opened = Runtime(settings, store, connection)
    opened._client = cast(LabelStudioClient, FakePages())
    jobs.install(opened)
    projects.change(store, 7, options={"batch_size": 10, "loop": {"reserve": 10}})
    add_texts(store, 40)
    jobs.train(7)
    return opened


@pytest.fixture
def work(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Do the actions that are queued, as a worker does, until none is left."""
    monkeypatch.setattr(Worker, "runtime", runtime, raising=False)

    def done() -> None:
        names = [queues.queue(runtime.connection, "publish")]
        worker = Worker(names, connection=runtime.connection, name="here.1.1", serializer=JSONSerializer)
        worker.work(burst=True)

    return done


def audit_lines(store: Store) -> list[str]:  # noqa: F811
    """Who did what, newest first."""
    return [row.line for row in events.newest(store, 200) if row.kind == events.ACTION]


def queued(connection: redis.Redis) -> list[Any]:  # noqa: F811
    """The ids of all jobs that wait."""
    return [job for name in queues.QUEUES for job in queues.queue(connection, name).job_ids]
