"""A decision server in a project's panel: several controls in one request, and what the doctor says of a broken one."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest
import redis

from mollm_backend import jobs
from mollm_backend.doctor import work
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.labelstudio.label_config import parse
from mollm_backend.settings import Settings
from mollm_backend.store import Store, events, projects, signals, tasks
from mollm_backend.store.projects import Project
from mollm_backend.store.tasks import Task
from tests.annotators.decision_server import DecisionServer, refusal
from tests.annotators.listening import listening

NUMBER, TEXTS = 9, 20
CONFIG = (
    '<View><Text name="text" value="$text"/><Choices name="animal" toName="text"><Choice value="cat"/>'
    '<Choice value="dog"/></Choices><Choices name="is" toName="text" choice="multiple"><Choice value="loud"/>'
    '<Choice value="big"/><Choice value="old"/></Choices></View>'
)
PANEL = """
[[annotators]]
name = "decider"
runtime = "decisions"
model = "decider"
url = "{url}"
"""


@pytest.fixture
def server() -> Iterator[tuple[DecisionServer, str]]:
    fake = DecisionServer()
    with listening(0, fake) as port:
        yield fake, f"http://127.0.0.1:{port}"


@pytest.fixture
def runtime(
    settings: Settings, store: Store, connection: redis.Redis, server: tuple[DecisionServer, str]
) -> Iterator[Runtime]:
    written = settings.home / "panel.toml"
    written.write_text(PANEL.format(url=server[1]))
    opened = Runtime(settings.model_copy(update={"panel": written}), store, connection)
    jobs.install(opened)
    projects.save(store, Project(NUMBER, "http://ls", "Animals", "2026", CONFIG, parse(CONFIG)))
    tasks.upsert(
        store, NUMBER, [Task(n, f"h{n}", f"{'cat' if n % 2 else 'dog'} number {n}, loud") for n in range(TEXTS)]
    )
    opened.refresh_panel(projects.get(store, NUMBER))
    yield opened
    opened._annotators.close()


def test_all_controls_of_a_project_are_asked_in_one_request(
    runtime: Runtime, server: tuple[DecisionServer, str]
) -> None:
    """Four decisions, three of them about one list: two questions a request, one request a text."""
    fake, _ = server
    project = projects.get(runtime.store, NUMBER)
    assert len(project.panel) == 4
    jobs.annotate(NUMBER, "decider")
    for member in project.panel:
        assert signals.missing(runtime.store, NUMBER, member.fingerprint, 100) == []
    about_tasks = [body for body in fake.requests if "number" in body["state"]]
    assert [len(body["questions"]) for body in about_tasks] == [2] * TEXTS
    cost = signals.costs(runtime.store, NUMBER)["decider"]
    assert (cost.calls, cost.texts) == (TEXTS, 2 * TEXTS)
    assert cost.prompt_tokens > 0
    assert any("asks decider: decider at" in event.line for event in events.newest(runtime.store))


def test_the_doctor_names_a_server_that_decides_badly(runtime: Runtime, server: tuple[DecisionServer, str]) -> None:
    fake, _ = server
    fake.spoils = lambda text, answer: answer | {"probabilities": {"cat": 0.4, "dog": 0.3}}
    jobs.annotate(NUMBER, "decider")
    found = [one.line for one in work.examine(runtime.store, runtime.settings, [projects.get(runtime.store, NUMBER)])]
    away = [line for line in found if "decider is away" in line]
    assert len(away) >= 1
    assert "the decision server's probabilities sum to 0.7, not to 1" in away[0]


def test_a_hanging_or_failing_server_is_one_line_and_asked_again(
    runtime: Runtime, server: tuple[DecisionServer, str]
) -> None:
    fake, _ = server
    fake.broken = lambda request: refusal(503, "overloaded")
    jobs.annotate(NUMBER, "decider")
    said = [event.line for event in events.newest(runtime.store) if event.kind == "problem"]
    assert all("decider is away" in line and "503" in line for line in said)
    fake.broken = _fine
    jobs.annotate(NUMBER, "decider")
    first = projects.get(runtime.store, NUMBER).panel[0]
    assert signals.missing(runtime.store, NUMBER, first.fingerprint, 100) == []


def _fine(request: httpx.Request) -> httpx.Response | None:
    return None
