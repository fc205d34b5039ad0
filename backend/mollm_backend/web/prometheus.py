"""Prometheus metrics, read from the store and the queue at each scrape, so that all web processes give the same.

Figures of a project are those that a job noted last, each read for all projects at once; nothing is counted here. What
is not known, or was noted too long ago (`mollm_backend.work.progress.KEPT_SECONDS`), has no sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import redis
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from mollm_backend.store import Store, all_projects, certificates, notes, projects, signals
from mollm_backend.store.projects import Project
from mollm_backend.store.signals import Cost
from mollm_backend.store.versions import Version
from mollm_backend.web import latency
from mollm_backend.work import progress, queues, workers
from mollm_backend.work.progress import Progress

Samples = list[tuple[tuple[str, ...], float]]
Spent = Mapping[tuple[int, str, str], Cost]  # by project, annotator and fingerprint
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
    read = progress.of_noted(connection, connected)
    gauges = _gauges(registry)
    away, spent = signals.absent(store), all_projects.spent(store)
    published, certified = all_projects.published(store), all_projects.certified(store)
    told = notes.of_all(store, [notes.STANDING, *(f"version {version.id}" for version in published.values())])
    for project in connected:
        version = published.get(project.id)
        facts = told.get((project.id, f"version {version.id}"), notes.Note()).body if version else {}
        _trust(gauges, project.id, version, facts, told.get((project.id, notes.STANDING), notes.Note()).body)
        if project.id in certified:  # not from the note: the watch over drift withdraws one and writes no note
            for state in (certificates.GRANTED, certificates.REFUSED, certificates.WITHDRAWN, certificates.UNDONE):
                gauges["certified"].labels(project.id, state).set(certified[project.id] == state)
        if project.id in read:
            _reading(gauges, project, read[project.id], spent)
        for name in {member.name for member in project.panel}:
            prints = {member.fingerprint for member in project.panel if member.name == name}
            gauges["away"].labels(project.id, name).set(not prints.isdisjoint(away))
    _errors(registry, store, found)
    registry.register(Totals(_totals(spent)))
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
        "reused": ("annotator_reused_answers", "Answers for which it was not asked: they were in the cache",
                   ("annotator",)),
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


def _reading(gauges: Mapping[str, Gauge], project: Project, reading: Progress, spent: Spent) -> None:
    n = project.id
    for short in ("tasks", "unreadable", "closed"):
        gauges[short].labels(n).set(getattr(reading, short))
    gauges["human"].labels(n).set(reading.people)
    for name, count in reading.left_by_name(project).items():
        gauges["unread"].labels(n, name).set(count)
        gauges["reused"].labels(n, name).set(0)
    for member in project.asked:
        # Equal texts, and texts that an earlier project asked the same of, are asked for once.
        paid = spent.get((n, member.name, member.fingerprint), Cost()).texts
        gauges["reused"].labels(n, member.name).inc(max(reading.readable - reading.left[member.fingerprint] - paid, 0))


def _trust(
    gauges: Mapping[str, Gauge], n: int, version: Version | None, facts: Mapping[str, Any], noted: Mapping[str, Any]
) -> None:
    """What is known of a project's published `version`: its `facts`, and the `noted` standing."""
    finish = noted.get("finish") or {}
    expected = (finish.get("plan") or {}).get("expected") if finish.get("within_reach", True) else None
    values: dict[str, float | None] = {"left": expected}
    if version is not None:
        guess, discrepancy = facts.get("guess") or {}, facts.get("discrepancy") or {}
        values |= {
            "round": version.round, "learned": version.human_labels, "guess": guess.get("value"),
            "discrepancy": discrepancy.get("any"),
        } | _measured((noted.get("rest") or {}).get(version.id) or {})  # fmt: skip
    for short, value in values.items():
        if value is not None:
            gauges[short].labels(n).set(value)
    for state, count in ((noted.get("certificate") or {}).get("states") or {}).items():
        gauges["accepted"].labels(n, state).set(count)


def _measured(figure: Mapping[str, Any]) -> dict[str, float | None]:
    return {"accuracy": figure.get("value"), "low": figure.get("low"), "high": figure.get("high"), "n": figure.get("n")}


def _errors(registry: CollectorRegistry, store: Store, every: Sequence[Project]) -> None:
    names = {member.fingerprint: member.name for project in every for member in project.panel}
    errors = Counter[tuple[str, ...]]()
    for (fingerprint, kind), count in all_projects.failed(store).items():
        errors[names.get(fingerprint, "gone"), kind] += count
    what = "Texts whose answer failed, by kind, until they are answered"
    gauge = Gauge("mollm_annotator_errors", what, ["annotator", "kind"], registry=registry)
    for (name, kind), count in errors.items():
        gauge.labels(name, kind).set(count)


def _totals(spent: Spent) -> list[Total]:
    """What each annotator has done and cost, over all projects."""
    costs: dict[str, Cost] = {}
    for (_project, who, _fingerprint), more in spent.items():
        before = costs.get(who, Cost())
        costs[who] = Cost(*(getattr(before, name) + getattr(more, name) for name in Cost.__dataclass_fields__))
    whole = {
        "texts": "Texts answered", "calls": "Requests or passes of a model", "truncated": "Texts read only in part",
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
