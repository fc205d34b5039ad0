"""`mollm bench serve`: how long /predict and /webhook take while the worker trains, on real parts."""

from __future__ import annotations

import json
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import numpy as np
import typer

from mollm.records import LabelSet, Provenance
from mollm_backend.cli.terminal import AsJson, note
from mollm_backend.labelstudio.events import SECRET_HEADER
from mollm_backend.settings import Settings, load
from mollm_backend.store import Store, labels, now, projects, signals, tasks, versions
from mollm_backend.store.decisions import Decision, Source
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.signals import Cost, SignalRow
from mollm_backend.store.tasks import Task
from mollm_backend.supervisor import parts, ports, valkey
from mollm_backend.supervisor.processes import Family
from mollm_backend.wheels import Tell
from mollm_backend.work import queues

PROJECT = 1
NOWHERE = "http://127.0.0.1:9"  # the discard port: no Label Studio answers there
NEVER_AGAIN = "2999-01-01T00:00:00+00:00"  # reconciled then: the worker does not ask Label Studio meanwhile
FIRST_VERSION_SECONDS = 300.0  # it is there after 15 s with 500 tasks on two shared cores
C, M = 6, 5  # labels and annotators of the made-up project, as in the recordings
LABELS = LabelSet(tuple(f"label {c}" for c in range(C)))
CONFIG = "<View/>"  # the same in the store and in each request, so that no request is of another config


@dataclass(frozen=True)
class Latencies:
    """Milliseconds of each request to /predict and to /webhook, and what the worker did meanwhile."""

    milliseconds: dict[str, list[float]]
    trainings: int
    training_share: float


def serve(
    seconds: Annotated[float, typer.Option(min=1, help="How long to send requests.")] = 30.0,
    tasks: Annotated[int, typer.Option(min=50, help="Tasks in the made-up project.")] = 2000,
    json_output: AsJson = False,
) -> None:
    """Latency of one-task /predict and of /webhook while the worker trains (own home, real queue, web and worker)."""
    with tempfile.TemporaryDirectory(prefix="mollm-bench-") as name:
        family = Family(Path(name), note)
        with family.until_stopped():
            found = measure(load(Path(name)), family, seconds=seconds, count=tasks, tell=note)
    figures: dict[str, float] = {"trainings": found.trainings, "share_of_time_training": found.training_share}
    for what, times in found.milliseconds.items():
        figures |= {f"{what}_p{q}_ms": round(float(np.percentile(times, q)), 2) for q in (50, 99)}
        figures[f"{what}_requests"] = len(times)
    if json_output:
        print(json.dumps(figures))
        return
    for what, times in found.milliseconds.items():
        low, high = (figures[f"{what}_p{q}_ms"] for q in (50, 99))
        print(f"/{what}: {len(times)} requests, p50 {low:.1f} ms, p99 {high:.1f} ms (bar: 100)")
    print(f"{found.trainings} trainings ended meanwhile; the worker trained {found.training_share:.0%} of the time")


def measure(settings: Settings, family: Family, *, seconds: float, count: int, tell: Tell) -> Latencies:
    """Serve a made-up project of `count` tasks while its worker trains again and again; requests come one by one."""
    store = Store(settings.store_url)
    valkey.start(family, settings.home / "valkey", settings.queue_url)
    rng = np.random.default_rng(0)
    _fill(store, count, rng)
    server = ports.listen("127.0.0.1", settings.port)
    url = f"http://127.0.0.1:{server.getsockname()[1]}"
    environment = {"MOLLM_HOME": str(settings.home), "MOLLM_REFIT_EVERY": "10", "LABEL_STUDIO_URL": NOWHERE}
    family.start(parts.web(server, environment))
    parts.wait_for_web(family, url)
    family.start(parts.worker(environment))
    _wait_for_version(store)
    tell(f"the first version is there; {seconds:.0f} s of requests while the worker trains")
    return _requests(settings, store, url, seconds, count, rng)


def _fill(store: Store, count: int, rng: np.random.Generator) -> None:
    panel = tuple(PanelMember(f"llm-{m}", f"print-{m}") for m in range(M))
    asked = (Decision("label", (Source("text", "text"),), LABELS),)
    projects.save(store, Project(PROJECT, NOWHERE, "bench", "", CONFIG, asked, panel, reconciled_at=NEVER_AGAIN))
    rows = [Task(n + 1, str(n), f"made-up text number {n}") for n in range(count)]
    tasks.upsert(store, PROJECT, rows)
    truth = rng.integers(C, size=count)
    for member in panel:
        answer = np.where(rng.random(count) < 0.7, truth, rng.integers(C, size=count))
        probs = np.full((count, C), 0.06)
        probs[np.arange(count), answer] = 0.7
        answers = [SignalRow(row.item.text_key, probs[n], probs[n]) for n, row in enumerate(rows)]
        signals.save(store, member, PROJECT, answers, Cost(calls=1, texts=count))


def _label(store: Store, round_index: int, rng: np.random.Generator) -> None:
    """Fifty people's labels that are new or changed: enough for another training."""
    first = 1 + 50 * (round_index % 6)
    chosen = [LABELS.names[c] for c in rng.integers(C, size=50)]
    scratch, at = Provenance.FROM_SCRATCH, now()
    labels.upsert(
        store,
        PROJECT,
        [Annotation(n, n, 1, label, False, scratch, updated_at=at) for n, label in enumerate(chosen, first)],
    )


def _wait_for_version(store: Store) -> None:
    deadline = time.monotonic() + FIRST_VERSION_SECONDS
    while not versions.every(store, PROJECT) and time.monotonic() < deadline:
        time.sleep(0.2)


def _requests(
    settings: Settings, store: Store, url: str, seconds: float, count: int, rng: np.random.Generator
) -> Latencies:
    connection = queues.connect(settings.queue_url)
    auth = (settings.basic_auth_user, settings.basic_auth_password.get_secret_value())
    hook = {SECRET_HEADER: settings.webhook_secret.get_secret_value()}
    event = {"action": "ANNOTATION_CREATED", "project": {"id": PROJECT}, "annotation": {"id": 1, "task": 1},
             "task": {"id": 1}}  # fmt: skip
    before = len(versions.every(store, PROJECT))
    predict: list[float] = []
    webhook: list[float] = []
    busy: list[bool] = []
    stop, round_index = time.monotonic() + seconds, 0
    with httpx.Client(base_url=url, timeout=30.0, trust_env=False) as client:
        while time.monotonic() < stop:
            if len(predict) % 50 == 0 and not queues.enqueued(connection, "train", PROJECT):
                round_index += 1
                _label(store, round_index, rng)
                queues.enqueue(connection, "train", "train", PROJECT)
            busy.append(queues.enqueued(connection, "train", PROJECT))
            number = int(rng.integers(1, 1 + count))
            body = {"tasks": [{"id": number, "data": {"text": f"made-up text number {number - 1}"}}],
                    "project": f"{PROJECT}.1", "label_config": CONFIG, "params": {}}  # fmt: skip
            predict.append(_timed(client.build_request("POST", "/predict", json=body), client, auth))
            webhook.append(_timed(client.build_request("POST", "/webhook", json=event, headers=hook), client))
            time.sleep(0.01)
    made = len(versions.every(store, PROJECT)) - before
    return Latencies({"predict": predict, "webhook": webhook}, made, float(np.mean(busy)))


def _timed(request: httpx.Request, client: httpx.Client, auth: tuple[str, str] | None = None) -> float:
    started = time.perf_counter()
    client.send(request, auth=auth).raise_for_status()
    return 1000 * (time.perf_counter() - started)
