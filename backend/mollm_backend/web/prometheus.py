"""Prometheus metrics, read from the store and the queue at each scrape, so that all web processes give the same."""

from __future__ import annotations

import redis
from prometheus_client import CollectorRegistry, Gauge, generate_latest

from mollm_backend.store import Store, labels, projects, signals
from mollm_backend.work import progress, queues


def text(store: Store, connection: redis.Redis) -> bytes:
    """All metrics in the exposition format."""
    registry = CollectorRegistry()
    waiting = Gauge("mollm_jobs_waiting", "Jobs that wait", ["queue"], registry=registry)
    running = Gauge("mollm_jobs_running", "Jobs that run", ["queue"], registry=registry)
    for name, state in queues.waiting(connection).items():
        waiting.labels(name).set(state["waiting"])
        running.labels(name).set(len(state["running"]))
    task_count = Gauge("mollm_tasks", "Tasks in the store", ["project"], registry=registry)
    unread = Gauge(
        "mollm_tasks_unread", "Tasks an annotator has not answered", ["project", "annotator"], registry=registry
    )
    human = Gauge("mollm_human_labels", "Human labels", ["project"], registry=registry)
    for project in projects.every(store):
        found = progress.newest(store, connection, project)
        task_count.labels(project.id).set(found.tasks)
        human.labels(project.id).set(labels.count(store, project.id))
        for name, count in found.left_by_name(project).items():
            unread.labels(project.id, name).set(count)
    tokens = Gauge("mollm_annotator_tokens", "Tokens spent", ["annotator", "kind"], registry=registry)
    seconds = Gauge("mollm_annotator_seconds", "Seconds of an annotator's time", ["annotator"], registry=registry)
    texts = Gauge("mollm_annotator_texts", "Texts answered", ["annotator"], registry=registry)
    for name, cost in signals.costs(store).items():
        tokens.labels(name, "prompt").set(cost.prompt_tokens)
        tokens.labels(name, "completion").set(cost.completion_tokens)
        seconds.labels(name).set(cost.seconds)
        texts.labels(name).set(cost.texts)
    return bytes(generate_latest(registry))
