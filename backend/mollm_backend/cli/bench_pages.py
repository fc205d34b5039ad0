"""`mollm bench pages`: how fast and how heavy the page of a large project is, served by the real web process."""

from __future__ import annotations

import importlib.util
import json
import re
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import httpx
import numpy as np
import psutil
import typer

from mollm.records import LabelSet, Provenance, digest
from mollm_backend.cli.terminal import note
from mollm_backend.settings import Settings, load
from mollm_backend.store import Store, audits, changes, labels, projects, signals, tasks, versions
from mollm_backend.store.decisions import Decision, Source
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.signals import Cost, SignalRow
from mollm_backend.store.tasks import Task
from mollm_backend.store.versions import StoredPrediction
from mollm_backend.supervisor import parts, ports, valkey
from mollm_backend.supervisor.processes import Family
from mollm_backend.work import progress, queues

if TYPE_CHECKING:
    import redis

PROJECT, PEOPLE, MEMBERS, AUDITED = 1, 4, 3, 300
LEARNED, TRAINED_ON = 2000, 600  # tasks and labels of the one real training, whose facts all versions have
LABELS = LabelSet(tuple(f"label {c}" for c in range(8)))
NOWHERE, NEVER_AGAIN = "http://127.0.0.1:9", "2999-01-01T00:00:00+00:00"
CHROMIUM, CHROMEDRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
# Without the last ones a browser looks up its maker's hosts.
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip
LOADS = 5  # of the browser; the median is told


def pages(
    tasks: Annotated[int, typer.Option(min=LEARNED, help="Tasks of the made-up project.")] = 100_000,
    annotations: Annotated[int, typer.Option(min=TRAINED_ON, help="People's labels.")] = 20_000,
    versions: Annotated[int, typer.Option(min=1, help="Versions, each with predictions of all tasks.")] = 50,
    requests: Annotated[int, typer.Option(min=1, help="How often the page is asked for.")] = 50,
) -> None:
    """Time and weight of a project's page, as JSON: one training is real, the rest of the project is made up.

    `cpu_ms` is of the processor for one answer, which a busy machine does not change much. `browser_ms` is until a new
    Chromium has the page complete (null where there is no Chromium or no selenium).
    """
    with tempfile.TemporaryDirectory(prefix="mollm-bench-") as name:
        home = Path(name)
        family = Family(home, note)
        with family.until_stopped():
            found = measure(load(home), family, (tasks, annotations, versions), requests)
    print(json.dumps(found))


def measure(settings: Settings, family: Family, size: tuple[int, int, int], requests: int) -> dict[str, Any]:
    """Fill a store with so many tasks, annotations and versions, serve it, and look at the page of its project."""
    valkey.start(family, settings.home / "valkey", settings.queue_url)
    with closing(Store(settings.store_url)) as store, closing(queues.connect(settings.queue_url)) as connection:
        started = time.perf_counter()
        fill(settings, store, connection, size)
        found: dict[str, Any] = dict(zip(("tasks", "annotations", "versions"), size, strict=True))
        found["fill_s"] = round(time.perf_counter() - started, 1)
        with closing(ports.listen("127.0.0.1", settings.port)) as server:
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
            family.start(parts.web(server, {"MOLLM_HOME": str(settings.home), "LABEL_STUDIO_URL": NOWHERE}))
            parts.wait_for_web(family, url)
        project = projects.get(store, PROJECT)
        progress.note(connection, project, progress.count(store, project))  # as a worker does after each job
    auth = (settings.basic_auth_user, settings.basic_auth_password.get_secret_value())
    with httpx.Client(base_url=url, auth=auth, timeout=60.0, trust_env=False) as client:
        for what, path in (("project", f"/projects/{PROJECT}"), ("list", "/")):
            found |= {f"{what}_{key}": value for key, value in _figures(client, path, family, requests).items()}
    found["browser_ms"] = _browser(settings.home, url, auth)
    return found


def _figures(client: httpx.Client, path: str, family: Family, requests: int) -> dict[str, float]:
    """Times and bytes of one page."""
    first, before = _timed(client, path), _cpu(family)
    times = [_timed(client, path) for _request in range(requests)]
    low, high = np.percentile(times, [50, 99])
    used = {
        "first_ms": first,
        "cpu_ms": (_cpu(family) - before) / requests,
        "p50_ms": float(low),
        "p99_ms": float(high),
    }
    return {name: round(value, 1) for name, value in used.items()} | _weight(client, path)


def _cpu(family: Family) -> float:
    """Milliseconds of processor time that the web process and its children have used so far."""
    web = psutil.Process(family.children[parts.WEB].process.pid)
    times = [one.cpu_times() for one in (web, *web.children(recursive=True))]
    return 1000 * float(sum(one.user + one.system for one in times))


def _timed(client: httpx.Client, path: str) -> float:
    """Milliseconds."""
    started = time.perf_counter()
    client.get(path).raise_for_status()
    return 1000 * (time.perf_counter() - started)


def _weight(client: httpx.Client, path: str) -> dict[str, int]:
    """Bytes of the page, and with all that it loads, without compression."""
    page = client.get(path, headers={"Accept": "text/html"}).text
    loaded = sorted(set(re.findall(r'(?:src|href)="(/static/[^"]+)"', page)))
    size = len(page.encode())
    return {"html_bytes": size, "bytes": size + sum(len(client.get(one).content) for one in loaded)}


def _browser(home: Path, url: str, auth: tuple[str, str]) -> float | None:
    """Median milliseconds until the page is complete in a browser that has cached nothing; None without a browser."""
    if not (CHROMIUM.exists() and CHROMEDRIVER.exists() and importlib.util.find_spec("selenium")):
        return None
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for flag in (*FLAGS, f"--user-data-dir={home / 'chromium'}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options=options, service=Service(str(CHROMEDRIVER)))
    try:
        driver.get(url.replace("//", f"//{auth[0]}:{auth[1]}@") + "/health")
        driver.execute_cdp_cmd("Network.enable", {})
        driver.execute_cdp_cmd("Network.setCacheDisabled", {"cacheDisabled": True})
        times = []
        for _load in range(LOADS):
            driver.get(f"{url}/projects/{PROJECT}")
            times.append(
                float(driver.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd"))
            )
        return round(float(np.median(times)), 1)
    finally:
        driver.quit()


def fill(settings: Settings, store: Store, connection: redis.Redis, size: tuple[int, int, int]) -> None:
    """A project of that size: one training is real; then it grows, its versions get older ones, and it is audited."""
    from mollm_backend import jobs
    from mollm_backend.jobs import acting, standing
    from mollm_backend.jobs.audit_outlook import Wanted
    from mollm_backend.jobs.runtime import Runtime
    from mollm_backend.work.actions import Asked

    rng, (count, labelled, made) = np.random.default_rng(0), size
    panel = tuple(PanelMember(f"llm-{m}", f"print-{m}") for m in range(MEMBERS))
    asked = (Decision("label", (Source("text", "text"),), LABELS),)
    projects.save(store, Project(PROJECT, NOWHERE, "bench", "", "<View/>", asked, panel, reconciled_at=NEVER_AGAIN))
    truth = rng.integers(LABELS.C, size=count)
    note(f"{LEARNED:,} tasks are learned with {TRAINED_ON} labels")
    _read(store, truth, range(LEARNED), rng)
    _label(store, truth, range(TRAINED_ON), rng)
    runtime = Runtime(settings, store, connection)
    jobs.install(runtime)
    queues.request_training(connection, PROJECT)
    queues.finish_nudges(connection, PROJECT, queues.nudges(connection, PROJECT))
    jobs.train(PROJECT)
    note(f"the project grows to {count:,} tasks, {labelled:,} labels and {made} versions")
    _read(store, truth, range(LEARNED, count), rng)
    _predict(store, truth, range(LEARNED, count), rng)
    _label(store, truth, range(TRAINED_ON, labelled), rng)
    _grow_old(store, made, labelled)
    _plan, audit = acting.draw(store, Asked(PROJECT, "audit", str(AUDITED), "bench"), Wanted(labels=AUDITED))
    _label(store, truth, [row.task_id - 1 for row in audits.tasks_of(store, PROJECT, audit.id)], rng)
    standing.note(store, PROJECT, runtime.loop_config(projects.get(store, PROJECT)).batch_size)


def _text(n: int) -> str:
    return f"made-up text number {n} " + "word " * 30


def _read(store: Store, truth: np.ndarray[Any, Any], which: range, rng: np.random.Generator) -> None:
    """Tasks, by their places in `truth`, that each LLM has read."""
    rows = [Task(n + 1, digest(json.dumps({"text": _text(n)})), _text(n)) for n in which]
    tasks.upsert(store, PROJECT, rows)
    for member in projects.get(store, PROJECT).panel:
        answers = []
        for n, row in zip(which, rows, strict=True):
            probs = np.full(LABELS.C, 0.3 / LABELS.C)
            probs[truth[n] if rng.random() < 0.75 else rng.integers(LABELS.C)] += 0.7
            answers.append(SignalRow(row.item.text_key, probs, probs))
        spent = Cost(len(rows), len(rows), 120 * len(rows), 4 * len(rows), 0, 0, 0.1 * len(rows))
        signals.save(store, member, PROJECT, answers, spent)


def _label(
    store: Store, truth: np.ndarray[Any, Any], which: range | list[int], rng: np.random.Generator
) -> None:  # fmt: skip
    """People's labels of these tasks; one in ten is wrong."""
    rows = []
    for n in which:
        said = LABELS.names[truth[n] if rng.random() < 0.9 else rng.integers(LABELS.C)]
        at = f"2026-01-{1 + n % 28:02}T00:00:00+00:00"
        rows.append(
            Annotation(n + 1, n + 1, 1 + n % PEOPLE, said, False, Provenance.FROM_SCRATCH, None, None, None, at, at)
        )
    labels.upsert(store, PROJECT, rows)


def _predict(store: Store, truth: np.ndarray[Any, Any], which: range, rng: np.random.Generator) -> None:
    """What the published version says of these tasks."""
    version = projects.get(store, PROJECT).published_version or ""
    keys = {row.task_id: row.item.text_key for row in tasks.every(store, PROJECT)}
    rows = []
    for n in which:
        sure = float(rng.beta(6, 2))
        probs = np.full(LABELS.C, (1 - sure) / (LABELS.C - 1))
        c = truth[n] if rng.random() < sure else rng.integers(LABELS.C)
        probs[c] = sure
        rows.append(StoredPrediction(n + 1, keys[n + 1], LABELS.names[c], sure, probs))
    versions.extend(store, PROJECT, version, rows, changes.newest(store, PROJECT))


def _grow_old(store: Store, made: int, labelled: int) -> None:
    """Older versions: the facts of the one that is there, with a row for each label, and its predictions."""
    import sqlalchemy as sa

    published = versions.find(store, PROJECT, projects.get(store, PROJECT).published_version)
    assert published is not None
    keys = [digest(str(n)) for n in range(labelled)]
    copied = "task_id, text_key, label, confidence, probs, classifier_probs, negatives, decision"
    query = sa.text(
        f"INSERT INTO predictions (project_id, version, {copied}) "  # noqa: S608 - columns, not what somebody wrote
        f"SELECT project_id, :old, {copied} FROM predictions WHERE project_id = :project AND version = :new"
    )
    for age in range(1, made):
        old = replace(
            published,
            id=f"mollm-{made - age}-older", status="retired",
            human_labels=max(published.human_labels - 10 * age, 0),
            created_at=f"2025-{1 + (made - age) // 28 % 12:02}-{1 + (made - age) % 28:02}T00:00:00+00:00",
            facts=published.facts | {"label_rows": keys},
        )  # fmt: skip
        versions.save(store, PROJECT, old, [])
        with store.write() as connection:
            connection.execute(query, {"old": old.id, "new": published.id, "project": PROJECT})
