"""A real web process on a free port with a project in every state, and a browser that looks at its pages."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import redis
import sqlalchemy as sa
from pydantic import SecretStr
from rq.serializers import JSONSerializer
from selenium.webdriver.common.by import By
from werkzeug.serving import WSGIRequestHandler, make_server

from mollm.records import LabelSet, Provenance
from mollm_backend import jobs
from mollm_backend.jobs import acting, certifying, standing
from mollm_backend.jobs.audit_outlook import Wanted
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.jobs.worker import Worker
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.settings import Settings
from mollm_backend.store import Store, audits, events, labels, notes, projects, signals, tasks
from mollm_backend.store.decisions import Decision, Source
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.signals import Cost, SignalRow
from mollm_backend.store.tasks import Task
from mollm_backend.supervisor import valkey
from mollm_backend.web.app import create_app
from mollm_backend.work import queues, workers
from mollm_backend.work.actions import Asked
from tests.e2e.browser import being_drawn
from tests.e2e.payloads import PAYLOADS
from tests.labelstudio.test_ls_publish import FakePages
from tests.waiting import eventually

USER, PASSWORD = "mollm", "pass"
DATA, EMPTY, READING, TRAINING, FAILED, OFF, HOSTILE = range(1, 8)
VIEWS = {
    "list": "/", "data": f"/projects/{DATA}", "empty": f"/projects/{EMPTY}", "reading": f"/projects/{READING}",
    "training": f"/projects/{TRAINING}", "failed": f"/projects/{FAILED}", "disconnected": f"/projects/{OFF}",
    "hostile": f"/projects/{HOSTILE}", "error": "/projects/999",
}  # fmt: skip
TOPICS = ("billing", "account access", "shipping and delivery", "refund", "technical fault", "praise")
LLMS = ("qwen3-4b-instruct", "phi-4-mini-instruct", "gemma-3-4b-it", "smollm2-360m-instruct")
SKILLS = (0.86, 0.8, 0.75, 0.45)
NEVER_AGAIN = "2999-01-01T00:00:00+00:00"  # reconciled then: no job asks Label Studio meanwhile


class _Quiet(WSGIRequestHandler):
    def log(self, type: str, message: str, *args: Any) -> None:
        return


@dataclass
class Site:
    """The address of a web process, what it reads, and a worker's runtime with a Label Studio that lies in memory."""

    url: str
    settings: Settings
    store: Store
    connection: redis.Redis
    runtime: Runtime

    def work(self) -> None:
        """Do the actions that are queued, as a worker does, until none is left."""
        names = [queues.queue(self.connection, "publish")]
        worker = Worker(names, connection=self.connection, name="here.1.1", serializer=JSONSerializer)
        worker.runtime = self.runtime
        worker.work(burst=True)


@contextmanager
def site(home: Path) -> Iterator[Site]:
    """A web process of a store in `home` with a project in every state (see `VIEWS`), beside a real Valkey."""
    url = f"unix://{home / 'valkey.sock'}"
    program = valkey.program(home)
    with (home / "valkey.log").open("wb") as log:
        process = subprocess.Popen(program.command, stdout=log, stderr=log)
    try:
        assert eventually(lambda: valkey.answers(url) or process.poll() is not None)
        assert process.poll() is None, (home / "valkey.log").read_text()
        settings = Settings(
            home=home, redis_url=url, basic_auth_password=SecretStr(PASSWORD), webhook_secret=SecretStr("hook")
        )
        store, connection = Store(settings.store_url), queues.connect(url)
        runtime = Runtime(settings, store, connection)
        runtime._client = cast(LabelStudioClient, FakePages())
        jobs.install(runtime)
        fill(store, connection, runtime)
        server = make_server(
            "127.0.0.1", 0, create_app(settings, store, connection), threaded=True, request_handler=_Quiet
        )
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Site(f"http://127.0.0.1:{server.server_port}", settings, store, connection, runtime)
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            connection.close()
    finally:
        process.terminate()
        process.wait()


def fill(store: Store, connection: redis.Redis, runtime: Runtime) -> None:
    """A project in every state, made by the product's own jobs."""
    worker = Worker(
        [queues.queue(connection, "train")], connection=connection, name=workers.worker_name(),
        serializer=JSONSerializer,
    )  # fmt: skip
    worker.register_birth()
    connection.persist(worker.key)  # it counts as alive without beats
    for number in (DATA, TRAINING, FAILED, OFF, HOSTILE):
        names = TOPICS if number != HOSTILE else PAYLOADS[:25]
        connect(store, number, "Support requests" if number != HOSTILE else PAYLOADS[3], names)
        learn(store, connection, number, 240 if number == DATA else 120)
    _audited(store)
    connect(store, EMPTY, "Nothing yet", TOPICS)
    connect(store, READING, "Being read", TOPICS)
    _texts(store, READING, 60, read=25)
    _note(connection, READING, "reading by " + LLMS[0], 25, 60)
    _note(connection, TRAINING, "training", 0, 0, "picking the next batch")
    _went_wrong(store, connection)
    projects.change(store, OFF, connected=False)
    _hostile(store, connection)
    for number in (DATA, TRAINING, FAILED, OFF, HOSTILE):
        standing.note(store, number, runtime.loop_config(projects.get(store, number)).batch_size)
    queues.queue(connection, "reconcile").empty()


def connect(store: Store, number: int, title: str, names: tuple[str, ...]) -> None:
    decision = Decision("label", (Source("text", "text"),), LabelSet(names))
    llms = LLMS if number != HOSTILE else tuple(f"{PAYLOADS[k]} {k}" for k in (1, 22, 37, 44))
    panel = tuple(PanelMember(name, f"print-{number}-{m}") for m, name in enumerate(llms))
    url = "http://label-studio.example" if number != HOSTILE else "javascript:window.ran=1//"
    options = {"batch_size": 20, "loop": {"reserve": 20}}
    projects.save(
        store,
        Project(number, url, title, "2026-01-01", "<View/>", (decision,), panel, options, reconciled_at=NEVER_AGAIN),
    )


def _texts(store: Store, number: int, count: int, *, read: int | None = None) -> np.ndarray[Any, Any]:
    """So many tasks, of which each LLM has read all or `read`; gives the true label of each."""
    project, rng = projects.get(store, number), np.random.default_rng(number)
    names = project.decision.labels.names
    truth = rng.integers(len(names), size=count)
    wanted = [
        PAYLOADS[n % 50] if number == HOSTILE else f"Customer writes about {names[c]}" for n, c in enumerate(truth)
    ]
    rows = [Task(n + 1, f"text-{number}-{n}", f"{text} (message {n + 1})") for n, text in enumerate(wanted)]
    tasks.upsert(store, number, rows)
    for member, skill in zip(project.panel, SKILLS, strict=True):
        right = rng.random(count) < np.where(truth == 2, skill - 0.25, skill)  # one label is harder than the others
        said = np.where(right, truth, rng.integers(len(names), size=count))
        answers = []
        for row, c in list(zip(rows, said, strict=True))[:read]:
            probs = np.full(len(names), 0.25 / len(names))
            probs[c] += 0.75
            answers.append(SignalRow(row.item.text_key, probs, probs, abstained=float(rng.random() < 0.02)))
        spent = Cost(len(answers), len(answers), 180 * len(answers), 4 * len(answers), 1.5, 2, 0.8 * len(answers))
        signals.save(store, member, number, answers, spent)
    return truth


def learn(store: Store, connection: redis.Redis, number: int, count: int) -> None:
    """Three people label in three rounds, and each round is learned."""
    truth, rng = _texts(store, number, count), np.random.default_rng(100 + number)
    names = projects.get(store, number).decision.labels.names
    done, each = 0, count // 12
    for part in range(3):
        for n in range(done, done + each):
            for person, care in ((11, 0.95), (12, 0.9), (13, 0.7)):
                if person == 11 or n % 3 == person - 12:
                    c = truth[n] if rng.random() < care else rng.integers(len(names))
                    say(store, number, n + 1, names[c], person)
        done += each
        if number != DATA and part < 2:
            continue
        queues.request_training(connection, number)
        queues.finish_nudges(connection, number, queues.nudges(connection, number))
        jobs.train(number)


def say(store: Store, number: int, task: int, label: str, person: int) -> None:
    """A person's label of a task, from scratch."""
    at = f"2026-01-01T00:{task % 60:02}:{person:02}+00:00"
    row = Annotation(
        1000 * person + task, task, person, label, False, Provenance.FROM_SCRATCH, created_at=at, updated_at=at
    )
    labels.upsert(store, number, [row])


def _audited(store: Store) -> None:
    """An audit of the project with data, answered by one person, and a certificate that it grants."""
    names, truth = projects.get(store, DATA).decision.labels.names, _truth(store, DATA)
    _plan, audit = acting.draw(store, Asked(DATA, "audit", "90", USER), Wanted(labels=90, target=0.8, seed=3))
    for row in audits.tasks_of(store, DATA, audit.id):
        say(store, DATA, row.task_id, names[truth[row.task_id]], 11)
    project = projects.get(store, DATA)
    certifying.decide(store, project, certifying.ready(store, project, audit, now=False))


def _truth(store: Store, number: int) -> dict[int, int]:
    rng, count = np.random.default_rng(number), tasks.count(store, number)[0]
    return dict(enumerate(rng.integers(projects.get(store, number).decision.labels.C, size=count).tolist(), start=1))


def _note(connection: redis.Redis, number: int, what: str, done: int, of: int, word: str = "") -> None:
    """What a worker notes of its long work, kept for longer than a test."""
    now = time.time()
    row = {
        "what": what, "project_id": number, "done": done, "of": of, "since": now - 40, "ends": now + 20, "word": word,
        "before": 0, "until": now + 36000,
    }  # fmt: skip
    connection.hset(f"mollm:running:{number}", what, json.dumps(row))


def _went_wrong(store: Store, connection: redis.Redis) -> None:
    line = "publish: Label Studio refused the token (401): make a new one and run `mollm connect` (next try in 60 s)"
    events.add(store, "problem", line, FAILED)
    for _time in range(3):
        queues.hold(connection, f"publish-{FAILED}")
    panel = projects.get(store, FAILED).panel
    signals.mark_absent(store, panel[0].fingerprint, "connection refused at http://127.0.0.1:8000: start the server")
    projects.change(
        store, FAILED, attention="The label config has changed: 3 labels are gone.",
        pinned_at="2026-01-02T08:00:00+00:00",
        options=projects.get(store, FAILED).options | {"tokens_a_day": 10},
    )  # fmt: skip


def _hostile(store: Store, connection: redis.Redis) -> None:
    """The payloads wherever somebody else's words can stand."""
    for payload in PAYLOADS:
        events.add(store, "problem", f"annotate: {payload}", HOSTILE)
    projects.change(
        store, HOSTILE, attention=PAYLOADS[0], options=projects.get(store, HOSTILE).options | {"tokens_a_day": 9}
    )
    queues.hold(connection, f"annotate-{HOSTILE}-{PAYLOADS[1]}")
    for k, member in enumerate(projects.get(store, HOSTILE).panel):
        signals.mark_absent(store, member.fingerprint, PAYLOADS[25 + k])
    _note(connection, HOSTILE, f"reading by {PAYLOADS[4]}", 3, 9, PAYLOADS[5])
    version = projects.get(store, HOSTILE).published_version or ""
    with store.write() as opened:
        entries = opened.execute(sa.text("SELECT task_id FROM batch_entries WHERE project_id = :n"), {"n": HOSTILE})
        for k, (task,) in enumerate(entries.all()):
            opened.execute(
                sa.text("UPDATE batch_entries SET reason = :r WHERE project_id = :n AND task_id = :t"),
                {"r": PAYLOADS[k % 50], "n": HOSTILE, "t": task},
            )
    found = notes.read(store, HOSTILE, [f"detail {version}", f"version {version}"])
    body = found[f"detail {version}"].body
    notes.write(store, HOSTILE, **{f"detail {version}": body | {"people": {"lines": list(PAYLOADS)}}})
    body = found[f"version {version}"].body
    notes.write(store, HOSTILE, **{f"version {version}": body | {"notes": list(PAYLOADS), "gate": PAYLOADS[1]}})


WATCH = """
window.broken = [];
addEventListener('securitypolicyviolation', e => broken.push(`${e.violatedDirective} ${e.blockedURI} ${e.sample}`));
addEventListener('error', e => broken.push('error: ' + e.message));
addEventListener('unhandledrejection', e => broken.push('rejected: ' + e.reason));
window.shifted = [];
new PerformanceObserver(list => list.getEntries().forEach(e => shifted.push(
  {value: e.value, what: e.sources.map(s => s.node && (s.node.id || s.node.className || s.node.nodeName))})
)).observe({type: 'layout-shift', buffered: true});
"""
"""Runs before each page: it notes what the page's policy had to forbid, errors of scripts, and what moved."""


class Pages:
    """A browser that is signed in on a site."""

    def __init__(self, driver: Any, site: Site) -> None:
        self.driver, self.site = driver, site
        driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": WATCH})
        driver.get(site.url.replace("//", f"//{USER}:{PASSWORD}@"))

    def look(self, path: str, *, width: int = 1280, dark: bool = False) -> None:
        """Open a page at this width, light or dark."""
        self.driver.execute_cdp_cmd(
            "Emulation.setDeviceMetricsOverride",
            {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False},
        )
        theme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [theme]})
        self.driver.get(self.site.url + path)
        status = self.run("return performance.getEntriesByType('navigation')[0].responseStatus")
        assert status == (404 if path == VIEWS["error"] else 200), self.words("body")
        assert self.driver.find_elements(By.ID, "main")

    def run(self, script: str, *arguments: Any) -> Any:
        return self.driver.execute_script(script, *arguments)

    def open_all(self) -> None:
        """Open every detail, as somebody who wants to know all."""
        self.run("document.querySelectorAll('details').forEach(one => one.open = true)")

    def refresh(self) -> None:
        """Let the page look for news now, instead of in some seconds, and wait until it has."""
        before = self.run("return performance.getEntriesByType('resource').length")
        self.run("document.dispatchEvent(new Event('visibilitychange'))")
        fetched = "return performance.getEntriesByType('resource').length"
        assert eventually(lambda: self.run(fetched) > before, 30)
        time.sleep(0.3)  # the answer is put in place and painted

    def words(self, selector: str = "#main") -> str:
        """What can be read there; nothing while the browser is between two pages."""
        with being_drawn():
            return str(self.driver.find_element(By.CSS_SELECTOR, selector).text)
        return ""

    def picture(self, path: Path) -> None:
        """The whole page, however long, as a PNG."""
        size = self.run("return [innerWidth, document.documentElement.scrollHeight]")
        shot = self.driver.execute_cdp_cmd(
            "Page.captureScreenshot",
            {"captureBeyondViewport": True, "clip": {"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1}},
        )
        path.write_bytes(base64.b64decode(shot["data"]))
