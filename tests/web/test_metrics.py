"""The metrics, and the dashboard and the alert rules that read them: each query finds what it asks for."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import redis
import yaml
from flask import Flask
from prometheus_client.parser import text_string_to_metric_families

from mollm_backend.jobs.runtime import Runtime
from mollm_backend.store import Store, answer_errors, notes, projects, signals, versions
from mollm_backend.web import prometheus
from mollm_backend.work import queues
from tests.backend.conftest import PANEL

from .conftest import Browser

DOCKER = Path(__file__).parents[2] / "docker"
DASHBOARD: dict[str, Any] = json.loads((DOCKER / "grafana" / "mollm.json").read_text())
RULES: dict[str, Any] = yaml.safe_load((DOCKER / "alerts.yaml").read_text())
QUERIES = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
QUERIES += [rule["expr"] for group in RULES["groups"] for rule in group["rules"]]
FUNCTIONS = {"sum", "max", "rate", "histogram_quantile"}
NOTE = {
    "rest": {}, "finish": {"plan": {"expected": 120.5}},
    "certificate": {"status": "granted", "states": {"written": 80, "waiting": 5}},
}  # fmt: skip


def samples(text: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """By the name of a sample: its labels and its value."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


@pytest.fixture
def told(runtime: Runtime, browser: Browser) -> dict[str, list[tuple[dict[str, str], float]]]:
    """The metrics of a project with a version, an estimate, a certificate, failures and some requests."""
    store = runtime.store
    version = str(projects.get(store, 7).published_version)
    figure = {"value": 0.93, "low": 0.9, "high": 0.95, "n": 300, "of": "audit-1"}
    notes.write(store, 7, standing=NOTE | {"rest": {version: figure}})
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
    assert "mollm_accuracy_ratio" not in found
    assert "mollm_version_round" not in found
    assert value(found, "mollm_tasks", project="7") == 0


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


@pytest.fixture
def gunicorn_settings(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    from mollm_backend.supervisor import gunicorn_settings

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
