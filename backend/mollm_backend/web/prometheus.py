"""Prometheus metrics, read from the store and the queue at each scrape, so that all web processes give the same.

Figures of a project are those that a job noted last; nothing is computed here. What is not known has no sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import redis
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from mollm_backend.store import Store, answer_errors, certificates, labels, notes, projects, signals, versions
from mollm_backend.store.projects import Project
from mollm_backend.web import latency
from mollm_backend.work import progress, queues, workers
from mollm_backend.work.progress import Progress

STANDING = "standing"  # the note of `mollm_backend.jobs.standing`
Samples = list[tuple[tuple[str, ...], float]]
Total = tuple[str, str, tuple[str, ...], Samples]  # name, help, names of labels, samples


class Totals(Collector):
    """Counters whose values lie in the store."""

    def __init__(self, families: list[Total]) -> None:
        self.families = families

    def collect(self) -> list[CounterMetricFamily]:
        found = []
        for name, what, label_names, samples in self.families:
            family = CounterMetricFamily(name, what, labels=label_names)
            for label_values, value in samples:
                family.add_metric(label_values, value)
            found.append(family)
        return found


def text(store: Store, connection: redis.Redis) -> bytes:
    """All metrics in the exposition format. Raises redis.RedisError where the queue does not answer."""
    registry = CollectorRegistry()
    _queue(registry, connection)
    found = projects.every(store)
    connected = [project for project in found if project.connected]
    read = progress.of_all(store, connection, connected)
    gauges = _gauges(registry)
    away = signals.absent(store)
    for project in connected:
        _project(gauges, store, project, read[project.id])
        for member in {row.name: row for row in project.panel}.values():
            gauges["away"].labels(project.id, member.name).set(member.fingerprint in away)
    _errors(registry, store, found)
    registry.register(Totals(_spent(store)))
    return bytes(generate_latest(registry)) + latency.text()


def _queue(registry: CollectorRegistry, connection: redis.Redis) -> None:
    waiting = Gauge("mollm_jobs_waiting", "Jobs that wait", ["queue"], registry=registry)
    running = Gauge("mollm_jobs_running", "Jobs that run", ["queue"], registry=registry)
    age = Gauge("mollm_jobs_oldest_seconds", "Since when the oldest job waits", ["queue"], registry=registry)
    for name, state in queues.waiting(connection).items():
        waiting.labels(name).set(state["waiting"])
        running.labels(name).set(len(state["running"]))
        age.labels(name).set(queues.oldest(connection, name))
    failing = queues.failing(connection)
    Gauge("mollm_jobs_failing", "Jobs whose last try failed", registry=registry).set(len(failing))
    Gauge("mollm_workers", "Workers that are alive", registry=registry).set(len(workers.every(connection)))


def _gauges(registry: CollectorRegistry) -> dict[str, Gauge]:
    """By a short name; each has the label `project`, and some another one."""
    described: dict[str, tuple[str, str, tuple[str, ...]]] = {
        "tasks": ("tasks", "Tasks in the store", ()),
        "unreadable": ("tasks_unreadable", "Tasks without a text that can be read", ()),
        "closed": ("tasks_closed", "Tasks that people have labelled or skipped", ()),
        "unread": ("tasks_unread", "Tasks an annotator has not answered", ("annotator",)),
        "away": ("annotator_away", "1 while an annotator cannot be asked", ("annotator",)),
        "human": ("human_labels", "Human labels", ()),
        "round": ("version_round", "Round of the published version", ()),
        "learned": ("version_human_labels", "Human labels that the published version learned from", ()),
        "discrepancy": ("discrepancy_ratio", "Share of tasks on which the classifier or an LLM contradicts the mixture",
                        ()),
        "accuracy": ("accuracy_ratio", "Share of the open tasks that the published version has right, measured", ()),
        "low": ("accuracy_low_ratio", "Lower end of its 95 % interval", ()),
        "high": ("accuracy_high_ratio", "Upper end of its 95 % interval", ()),
        "n": ("accuracy_tasks", "Tasks that it was measured on", ()),
        "guess": ("expected_accuracy_ratio", "Its own guess: the mean confidence on the open tasks, not measured", ()),
        "certified": ("certificate", "1 for the state that the newest certificate is in", ("state",)),
        "accepted": ("tasks_accepted", "Tasks that the newest certificate accepts unseen, by state", ("state",)),
        "left": ("labels_to_finish", "Labels that the plan expects until the project is finished", ()),
    }  # fmt: skip
    return {
        short: Gauge(f"mollm_{name}", what, ["project", *more], registry=registry)
        for short, (name, what, more) in described.items()
    }


def _project(gauges: Mapping[str, Gauge], store: Store, project: Project, reading: Progress) -> None:
    n = project.id
    values: dict[str, float | None] = {
        "tasks": reading.tasks, "unreadable": reading.unreadable, "closed": reading.closed,
        "human": labels.counts(store, n).labels,
    }  # fmt: skip
    for name, count in reading.left_by_name(project).items():
        gauges["unread"].labels(n, name).set(count)
    published = versions.brief_of(store, n, project.published_version)
    noted = notes.read(store, n, [STANDING]).get(STANDING, notes.Note()).body
    if published is not None:
        guess, discrepancy = published.facts.get("guess") or {}, published.facts.get("discrepancy") or {}
        values |= {
            "round": published.round, "learned": published.human_labels, "guess": guess.get("value"),
            "discrepancy": discrepancy.get("any"),
        } | _measured((noted.get("rest") or {}).get(published.id) or {})  # fmt: skip
    values["left"] = ((noted.get("finish") or {}).get("plan") or {}).get("expected")
    for short, value in values.items():
        if value is not None:
            gauges[short].labels(n).set(value)
    certificate = noted.get("certificate") or {}
    if certificate:
        for state in (certificates.GRANTED, certificates.REFUSED, certificates.WITHDRAWN, certificates.UNDONE):
            gauges["certified"].labels(n, state).set(certificate.get("status") == state)
        for state, count in (certificate.get("states") or {}).items():
            gauges["accepted"].labels(n, state).set(count)


def _measured(figure: Mapping[str, Any]) -> dict[str, float | None]:
    return {"accuracy": figure.get("value"), "low": figure.get("low"), "high": figure.get("high"), "n": figure.get("n")}


def _errors(registry: CollectorRegistry, store: Store, every: Sequence[Project]) -> None:
    names = {member.fingerprint: member.name for project in every for member in project.panel}
    errors = Counter[tuple[str, ...]]()
    for (fingerprint, kind), count in answer_errors.counts(store).items():
        errors[names.get(fingerprint, "gone"), kind] += count
    what = "Texts whose answer failed, by kind, until they are answered"
    gauge = Gauge("mollm_annotator_errors", what, ["annotator", "kind"], registry=registry)
    for (name, kind), count in errors.items():
        gauge.labels(name, kind).set(count)


def _spent(store: Store) -> list[Total]:
    """What each annotator has done and cost, over all projects."""
    costs = signals.costs(store)
    whole = {
        "texts": "Texts answered", "calls": "Requests or passes of a model", "truncated": "Texts that were cut",
        "abstained": "Texts abstained on", "seconds": "Seconds of an annotator's time",
    }  # fmt: skip
    found: list[Total] = []
    for name, what in whole.items():
        samples: Samples = [((who,), getattr(cost, name)) for who, cost in costs.items()]
        found.append((f"mollm_annotator_{name}", what, ("annotator",), samples))
    tokens: Samples = [((who, kind), float(getattr(cost, f"{kind}_tokens"))) for who, cost in costs.items()
              for kind in ("prompt", "completion")]  # fmt: skip
    return [
        *found,
        ("mollm_annotator_tokens", "Tokens read and written", ("annotator", "kind"), tokens),
    ]
