"""The metrics, and the dashboard and the alert rules that read them: each query finds what it asks for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
import yaml
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

from mollm_backend.jobs.runtime import Runtime
from mollm_backend.settings import Settings
from mollm_backend.store import Store, answer_errors, certificates, notes, projects, signals, versions
from mollm_backend.supervisor.ports import free_port
from mollm_backend.web import prometheus
from mollm_backend.work import progress, queues
from tests.backend.conftest import PANEL

from .conftest import BASIC, Browser

DOCKER = Path(__file__).parents[2] / "docker"
DASHBOARD: dict[str, Any] = json.loads((DOCKER / "grafana" / "mollm.json").read_text())
RULES: dict[str, Any] = yaml.safe_load((DOCKER / "alerts.yaml").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
QUERIES += [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
FUNCTIONS = {"sum", "max", "rate", "histogram_quantile"}
NOTE = {
    "rest": {}, "finish": {"plan": {"expected": 120.5}},
    "certificate": {"states": {"written": 80, "waiting": 5}},
}  # fmt: skip


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """By the name of a sample: its labels and its value."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def noted(runtime: Runtime) -> None:
    """As a worker does at each sweep."""
    project = projects.get(runtime.store, 7)
    progress.note(runtime.connection, project, progress.count(runtime.store, project))


@pytest.fixture
def told(runtime: Runtime, browser: Browser) -> dict[str, list[tuple[dict[str, str], float]]]:
    """The metrics of a project with a version, an estimate, a certificate, failures and some requests."""
    store = runtime.store
    version = str(projects.get(store, 7).published_version)
    figure = {"value": 0.93, "low": 0.9, "high": 0.95, "n": 300, "of": "audit-1"}
    notes.write(store, 7, standing=NOTE | {"rest": {version: figure}})
    row = certificates.Certificate("audit-1", 1, 900, 100, 2, 800, 0.95, 0.95, [], certificates.GRANTED)
    certificates.save(store, 7, row, [], last=True)
    noted(runtime)
    signals.save(store, PANEL[0], 7, [], signals.Cost(calls=2, texts=3, prompt_tokens=40, completion_tokens=3))
    answer_errors.note(store, "f-tiny", {"some text": "the window is too small"})
    signals.mark_absent(store, "f-small", "down")
    queues.hold(runtime.connection, queues.job_id("train", 7))
    queues.enqueue(runtime.connection, "reconcile", "reconcile", 7)
    browser.get("/index.json")
    browser.get("/no/such/page")
    return samples(browser.get("/metrics").text)


def value(told: dict[str, list[tuple[dict[str, str], float]]], name: str, **labels: str) -> float:
    (found,) = [number for given, number in told[name] if labels.items() <= given.items()]
    return found


def test_it_tells_what_jobs_noted(told: dict[str, list[tuple[dict[str, str], float]]]) -> None:
    assert value(told, "mollm_accuracy_ratio", project="7") == 0.93
    assert value(told, "mollm_accuracy_low_ratio", project="7") == 0.9
    assert value(told, "mollm_accuracy_tasks", project="7") == 300
    assert value(told, "mollm_labels_to_finish", project="7") == 120.5
    assert value(told, "mollm_certificate", state="granted") == 1
    assert value(told, "mollm_certificate", state="withdrawn") == 0
    assert value(told, "mollm_tasks_accepted", state="written") == 80
    assert value(told, "mollm_tasks", project="7") == 40
    assert 0 <= value(told, "mollm_discrepancy_ratio", project="7") <= 1
    assert 0 < value(told, "mollm_expected_accuracy_ratio", project="7") <= 1


def test_it_tells_of_the_panel_and_the_queue(told: dict[str, list[tuple[dict[str, str], float]]]) -> None:
    assert value(told, "mollm_annotator_tokens_total", annotator="tiny", kind="prompt") >= 40
    assert value(told, "mollm_annotator_texts_total", annotator="tiny") >= 3
    assert value(told, "mollm_annotator_errors", annotator="tiny") == 1
    assert value(told, "mollm_annotator_away", annotator="small") == 1
    assert value(told, "mollm_annotator_away", annotator="tiny") == 0
    assert value(told, "mollm_jobs_failing") == 1
    assert value(told, "mollm_jobs_waiting", queue="reconcile") == 1
    assert 0 <= value(told, "mollm_jobs_oldest_seconds", queue="reconcile") < 60
    assert value(told, "mollm_workers") == 0


def test_it_tells_how_long_requests_take(told: dict[str, list[tuple[dict[str, str], float]]]) -> None:
    assert value(told, "mollm_request_seconds_count", route="/index.json", status="200") >= 1
    assert value(told, "mollm_request_seconds_count", route="none", status="404") >= 1
    assert not any("no/such" in str(labels) for labels, _ in told["mollm_request_seconds_count"])


def test_what_is_not_known_has_no_sample(app: Flask, store: Store, connection: redis.Redis) -> None:
    found = samples(prometheus.text(store, connection).decode())
    assert not {"mollm_accuracy_ratio", "mollm_version_round", "mollm_certificate", "mollm_tasks"} & set(found)


def test_a_scrape_counts_no_task(runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    def count(*_args: Any) -> None:
        raise AssertionError("counted")

    noted(runtime)
    for counting in ("progress.count", "tasks.count", "labels.count", "labels.closed_count"):
        monkeypatch.setattr(f"mollm_backend.{'work' if 'progress' in counting else 'store'}.{counting}", count)
    found = samples(prometheus.text(runtime.store, runtime.connection).decode())
    assert value(found, "mollm_tasks", project="7") == 40
    runtime.connection.delete("mollm:progress:7")
    found = samples(prometheus.text(runtime.store, runtime.connection).decode())
    assert "mollm_tasks" not in found
    assert value(found, "mollm_version_round", project="7") == 0


def test_labels_of_people_are_told_as_a_worker_counted_them(runtime: Runtime) -> None:
    project = projects.get(runtime.store, 7)
    progress.note(runtime.connection, project, progress.Progress(9, 1, {"f-tiny": 2, "f-small": 0}, {}, 3, 4))
    found = samples(prometheus.text(runtime.store, runtime.connection).decode())
    assert value(found, "mollm_human_labels", project="7") == 4
    assert value(found, "mollm_tasks_closed", project="7") == 3


def test_answers_from_the_cache_are_those_that_a_project_did_not_pay_for(runtime: Runtime) -> None:
    again = replace(projects.get(runtime.store, 7), id=8)
    projects.save(runtime.store, again)
    progress.note(runtime.connection, again, progress.Progress(40, 4, {"f-tiny": 6, "f-small": 36}))
    noted(runtime)
    found = samples(prometheus.text(runtime.store, runtime.connection).decode())
    name = "mollm_annotator_reused_answers"
    assert value(found, name, project="8", annotator="tiny") == 30
    assert value(found, name, project="8", annotator="small") == 0
    assert value(found, name, project="7", annotator="tiny") == 0


def test_a_withdrawn_certificate_is_told_at_once(
    told: dict[str, list[tuple[dict[str, str], float]]], runtime: Runtime
) -> None:
    assert value(told, "mollm_certificate", state="granted") == 1
    certificates.withdraw(runtime.store, 7, "certificate-1", "drift")
    found = samples(prometheus.text(runtime.store, runtime.connection).decode())
    assert value(found, "mollm_certificate", state="granted") == 0
    assert value(found, "mollm_certificate", state="withdrawn") == 1


def test_without_a_queue_it_says_so(app: Flask, connection: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(*_args: Any, **_kwargs: Any) -> None:
        raise redis.ConnectionError("no")

    monkeypatch.setattr(connection, "execute_command", gone)
    answer = app.test_client().get("/metrics", headers=BASIC)
    assert answer.status_code == 503
    assert "The queue (Valkey or Redis) is not reachable" in answer.text


@pytest.mark.parametrize("query", sorted(set(QUERIES)))
def test_each_query_finds_what_it_asks_for(query: str, told: dict[str, list[tuple[dict[str, str], float]]]) -> None:
    stack = []
    for sign in re.sub(r'"[^"]*"', '""', query):
        if sign in "([{":
            stack.append(sign)
        elif sign in ")]}":
            assert stack, query
            assert stack.pop() + sign in ("()", "[]", "{}"), query
    assert not stack, query
    plain = re.sub(r'"[^"]*"', '""', query)
    assert set(re.findall(r"\b([a-z_]+)\s*\(", re.sub(r"\bby\s*\([^)]*\)", "", plain))) <= FUNCTIONS
    names = re.findall(r"\bmollm_\w+", plain)
    assert names
    for name in names:
        assert name in told, f"{name} is not among the metrics"
    known = {label for name in names for labels, _ in told[name] for label in labels}
    asked = set(re.findall(r"[{,]\s*(\w+)\s*[!=]", plain))
    asked |= {one.strip() for group in re.findall(r"\bby\s*\(([^)]*)\)", plain) for one in group.split(",")}
    assert asked <= known, f"{asked - known} are no labels of {names}"


def test_each_metric_of_ours_has_a_picture_or_a_rule(told: dict[str, list[tuple[dict[str, str], float]]]) -> None:
    families = {re.sub(r"_(bucket|count|sum|created)$", "", name) for name in told if name.startswith("mollm_")}
    shown = " ".join(QUERIES)
    assert [name for name in sorted(families) if not re.search(rf"\b{name}(_bucket|_count|_sum)?\b", shown)] == []


def test_the_dashboard_is_one_that_grafana_loads() -> None:
    assert DASHBOARD["uid"] == "mollm"
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(set(ids)) == len(ids)
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in DASHBOARD["panels"]]
    assert len(set(places)) == len(places)
    assert all(panel["title"] and panel["description"] for panel in DASHBOARD["panels"])
    assert {variable["name"] for variable in DASHBOARD["templating"]["list"]} == {"source", "project"}


SEVERAL = """
import os, sys
from flask import Flask
from mollm_backend.web import latency
app = Flask("x")
latency.install(app)
app.get("/here")(lambda: "fine")
for _ in range(int(sys.argv[1])):
    app.test_client().get("/here")
print(latency.text().decode())
"""


def test_several_processes_are_counted_together(tmp_path: Path) -> None:
    def counted(requests: int) -> float:
        environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-c", SEVERAL, str(requests)], capture_output=True, text=True, env=environment, check=True
        )
        return value(samples(done.stdout), "mollm_request_seconds_count", route="/here", status="200")

    assert counted(3) == 3
    assert counted(2) == 5


def test_each_process_of_gunicorn_tells_the_sum(settings: Settings) -> None:
    port = free_port("127.0.0.1", 29300)
    command = [sys.executable, "-m", "gunicorn", "--bind", f"127.0.0.1:{port}", "--config",
               "python:mollm_backend.supervisor.gunicorn_settings"]  # fmt: skip
    given = {
        "MOLLM_HOME": str(settings.home), "REDIS_URL": settings.redis_url, "MOLLM_BASIC_AUTH_PASSWORD": "pass",
        "WEB_CONCURRENCY": "2", "TMPDIR": str(settings.home),
    }  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(command, env=os.environ | given, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 60
        while len(list(settings.home.glob("mollm-metrics-*/histogram_*.db"))) < 2 and time.monotonic() < deadline:
            try:  # until each of the two has answered
                httpx.get(f"{url}/health", timeout=5, trust_env=False)
            except httpx.HTTPError:
                time.sleep(0.1)
        for _ in range(20):
            assert httpx.get(f"{url}/setup", trust_env=False).status_code == 401
        for _ in range(6):
            found = samples(httpx.get(f"{url}/metrics", headers=BASIC, trust_env=False).text)
            assert sum(n for of, n in found["mollm_request_seconds_count"] if of["status"] == "401") == 20
    finally:
        process.terminate()
        process.wait(20)
    assert not list(settings.home.glob("mollm-metrics-*")), "what was measured goes with its processes"


@pytest.fixture
def gunicorn_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Any]:
    from mollm_backend.supervisor import gunicorn_settings

    monkeypatch.setenv("MOLLM_HOME", str(tmp_path))
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    monkeypatch.setattr(gunicorn_settings, "workers", 2)
    return vars(gunicorn_settings)


def test_gunicorn_makes_the_directory_and_takes_it_away(gunicorn_settings: dict[str, Any]) -> None:
    gunicorn_settings["on_starting"](None)
    directory = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    assert directory.is_dir()
    gunicorn_settings["on_exit"](None)
    assert not directory.exists()


def test_a_version_that_stays_tells_its_round(runtime: Runtime) -> None:
    store = runtime.store
    version = projects.get(store, 7).published_version
    found = samples(prometheus.text(store, runtime.connection).decode())
    assert value(found, "mollm_version_round") == versions.brief(store, 7)[0].round
    assert version
