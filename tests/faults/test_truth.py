"""The training set after a bad day: worker killed, Valkey restarted and emptied, Label Studio restarted, events lost.

Real parts: Label Studio, Valkey, the worker. People create, edit, delete and bulk accept annotations, edit and delete
tasks; a receiver drops a fifth of all events. Afterwards the store must equal a fresh export, row for row.
Once with the embedded parts and one worker, once with PostgreSQL, Redis and two workers that are killed in turn.
Sizes: MOLLM_FAULT_TASKS and MOLLM_FAULT_ANNOTATIONS (10,000 and 2,000).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import cycle
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import redis

from mollm import recording
from mollm.records import Item, LabelSet, Provenance, Signals, digest
from mollm_backend.labelstudio import events
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.connect import connect
from mollm_backend.labelstudio.errors import LabelStudioDown
from mollm_backend.labelstudio.label_config import rank_score
from mollm_backend.settings import Settings
from mollm_backend.store import Store, labels, projects, tasks, versions
from mollm_backend.supervisor import postgresql, valkey
from mollm_backend.work import progress, queues
from tests.serving import Handler, serving

from ..real_label_studio import TOKEN, executable, free_port, label_studio

T = TypeVar("T")
TASKS = int(os.environ.get("MOLLM_FAULT_TASKS", "10000"))
ANNOTATIONS = int(os.environ.get("MOLLM_FAULT_ANNOTATIONS", "2000"))
WORKER_KILLS, VALKEY_RESTARTS, VALKEY_WIPES, STUDIO_RESTARTS, DROPPED = 10, 3, 1, 2, 0.2
CHUNK, CHUNK_SECONDS = 16, 0.5  # so that the LLM still reads when the parts are ended
REDIS = shutil.which("redis-server")
LABELS = LabelSet(("cat", "dog", "cow"))
CONFIG = (
    '<View><Text name="text" value="$text"/><Choices name="label" toName="text">'
    '<Choice value="cat"/><Choice value="dog"/><Choice value="cow"/></Choices></View>'
)
PANEL = '[[annotators]]\nname = "recorded"\nruntime = "recording"\nmodel = "{directory}"\n'


def result(label: str) -> list[dict[str, Any]]:
    return [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}]


def make_recording(directory: Path) -> list[str]:
    rng = np.random.default_rng(0)
    texts = [f"animal {n} says {rng.choice(['meow', 'woof', 'moo'])}" for n in range(TASKS)]
    probs = rng.dirichlet(np.ones(3), (TASKS, 1))
    panel = Signals(tuple(map(str, range(TASKS))), ("recorded",), LABELS.names, probs, probs)
    items = tuple(Item(str(n), text) for n, text in enumerate(texts))
    recording.save(
        directory, recording.Recording("animals", LABELS, items, panel, np.full(TASKS, -1), 10, 0.7, 0.9)
    )  # fmt: skip
    return texts


class Restartable:
    """A part that can be ended and started again in the middle of everything."""

    def __init__(self, start: Callable[[], Any]) -> None:
        self._start = start
        self._running: ExitStack = ExitStack()

    def start(self) -> Any:
        return self._running.enter_context(self._start())

    def stop(self) -> None:
        self._running.close()

    def restart(self) -> None:
        self.stop()
        self.start()


@contextmanager
def running(
    command: list[str], environment: dict[str, str], log: Path, ending: int
) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.send_signal(ending)
        process.wait()


@contextmanager
def receiver(nudge: Callable[[int], None], rng: np.random.Generator) -> Iterator[str]:
    """The web process, as far as events go: a known one is a nudge. It loses a fifth of them."""

    class Receiver(Handler):
        def do_POST(self) -> None:
            body = json.loads(self.body() or b"{}")
            if self.path == "/webhook" and rng.random() >= DROPPED:
                with suppress(redis.RedisError):
                    nudge(events.parse(body).project_id)
            self.do_GET()

        def do_GET(self) -> None:
            self.answer(json.dumps({"model_version": "mollm-waiting", "status": "UP", "results": [{}]}).encode())

    with serving(Receiver) as url:
        yield url


class People:
    """Who annotates, and what the truth is: annotation id to provenance."""

    def __init__(self, client: LabelStudioClient, project: int, ids: list[int], texts: list[str], seed: int) -> None:
        self.client, self.project, self.texts = client, project, texts
        self.rng = np.random.default_rng(seed)
        self.free = [int(task) for task in self.rng.permutation(ids)]
        self.how: dict[int, Provenance] = {}
        self.task_of: dict[int, int] = {}
        self.done = self.busy = 0
        listed = client._raw("predictions", "GET", "api/predictions/", params={"project": project})
        self.parents = {row["task"]: row["id"] for row in listed if row["model_version"] == "base"}

    def _again_if_busy(self, do: Callable[[], T]) -> T:
        """A person clicks again where Label Studio's SQLite answers "database is locked" beside another writer."""
        for _ in range(9):
            with suppress(LabelStudioDown):
                return do()
            self.busy += 1
            time.sleep(0.5)
        return do()

    def act(self) -> None:
        acts = ["scratch", "accept", "edit", "bulk", "change", "delete", "text", "gone"]
        act = str(self.rng.choice(acts, p=[0.3, 0.25, 0.15, 0.06, 0.15, 0.03, 0.05, 0.01]))
        if act in ("scratch", "accept", "edit"):
            self.submit(act)
        elif act == "bulk":
            self.bulk([self.free.pop() for _ in range(3)])
        elif act == "text":
            text = self.texts[int(self.rng.integers(len(self.texts)))]
            path = f"api/tasks/{self.free[0]}/"
            self._again_if_busy(lambda: self.client._raw("text", "PATCH", path, body={"data": {"text": text}}))
        elif act == "gone":
            task = self.free.pop()
            self._again_if_busy(lambda: self.client._gone("gone", f"api/tasks/{task}/"))
        elif self.how:
            self.again(act, int(self.rng.choice(list(self.how))))

    def submit(self, act: str) -> None:
        task = self.free.pop()
        label = {"scratch": "cow", "accept": "cat", "edit": "dog"}[act]  # "cat" is what the base layer says
        more = {} if act == "scratch" else {"parent_prediction": self.parents[task]}
        number = self._again_if_busy(lambda: self.client.submit(task, result(label), lead_time=1.0, **more))
        kinds = {"scratch": Provenance.FROM_SCRATCH, "accept": Provenance.ACCEPTED, "edit": Provenance.EDITED}
        self.how[number], self.task_of[number] = kinds[act], task
        self.done += 1

    def bulk(self, chosen: list[int]) -> None:
        params = {"id": "predictions_to_annotations", "project": self.project}
        body = {"selectedItems": {"all": False, "included": chosen}, "model_version": "base"}
        self._again_if_busy(lambda: self.client._raw("bulk", "POST", "api/dm/actions/", params=params, body=body))
        for task, rows in self.client.annotations(self.project, chosen):
            for row in rows:
                self.how[row["id"]], self.task_of[row["id"]] = Provenance.BULK_ACCEPTED, task
                self.done += 1

    def again(self, act: str, number: int) -> None:
        if act == "delete":
            self._again_if_busy(lambda: self.client._gone("delete", f"api/annotations/{number}/"))
            del self.how[number]
            return
        path, body = f"api/annotations/{number}/", {"result": result("cow")}
        self._again_if_busy(lambda: self.client._raw("change", "PATCH", path, body=body))
        if self.how[number] is not Provenance.FROM_SCRATCH:
            self.how[number] = Provenance.EDITED


def exported(client: LabelStudioClient, project: int) -> dict[int, tuple[int, int, str, str]]:
    """A fresh export, read here and not by the code under test."""
    rows = client._raw("export", "GET", f"api/projects/{project}/export", params={"exportType": "JSON"}, seconds=600)
    return {
        found["id"]: (row["id"], found["completed_by"], found["result"][0]["value"]["choices"][0], row["data"]["text"])
        for row in rows
        for found in row["annotations"]
    }


def stored(store: Store, project: int) -> dict[int, tuple[int, int, str | None, str | None]]:
    texts = {task.task_id: task.text for task in tasks.every(store, project)}
    return {
        row.annotation_id: (row.task_id, row.user_id, row.label, texts[row.task_id])
        for row in labels.every(store, project)
    }


def all_predicted(store: Store, project: int) -> bool:
    """Whether the published version has predicted the present text of each task."""
    said = versions.predicted(store, project, projects.get(store, project).published_version or "")
    rows = tasks.every(store, project)
    return all(row.task_id in said and said[row.task_id].text_key == row.text_key for row in rows)


def rounds(store: Store, project: int) -> str:
    found = [f"{row.status} on {row.human_labels}" for row in versions.every(store, project)]
    return f"{len(found)} versions trained meanwhile ({', '.join(found)} labels)"


def texts_of(store: Store, project: int) -> dict[int, str | None]:
    return {task.task_id: task.text for task in tasks.every(store, project)}


@contextmanager
def a_database(where: str, home: Path) -> Iterator[str]:
    """The URL of the store's database."""
    if where == "embedded":
        yield f"sqlite:///{home / 'mollm.db'}"
        return
    programs = postgresql.programs()
    if programs is None or REDIS is None:
        pytest.skip("PostgreSQL or Redis is not installed")
    with postgresql.server(programs) as running_there:
        yield running_there.url


def queue_command(where: str, directory: Path) -> list[str]:
    """The queue's server, which listens on `valkey.sock` in the directory and keeps what it holds."""
    if where == "embedded":
        return list(valkey.program(directory).command)
    socket = str(directory / "valkey.sock")
    return [str(REDIS), "--port", "0", "--unixsocket", socket, "--appendonly", "yes", "--dir", str(directory)]


@pytest.mark.faults
@pytest.mark.label_studio
@pytest.mark.timeout(4 * 3600)
@pytest.mark.parametrize("where", ["embedded", "hosts"])
def test_the_training_set_equals_a_fresh_export(tmp_path: Path, where: str) -> None:
    if not executable().exists():
        pytest.skip(f"no Label Studio at {executable()}: set MOLLM_LABEL_STUDIO to its executable")
    with a_database(where, tmp_path) as database_url:
        a_bad_day(tmp_path, where, database_url)


def a_bad_day(tmp_path: Path, where: str, database_url: str) -> None:
    texts = make_recording(tmp_path / "recording")
    (tmp_path / "panel.toml").write_text(PANEL.format(directory=tmp_path / "recording"))
    port, socket_dir = free_port(), tmp_path / "v"
    socket_dir.mkdir()
    command = queue_command(where, socket_dir)
    queue_url = f"unix://{socket_dir / 'valkey.sock'}"
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {
        "MOLLM_HOME": str(tmp_path), "REDIS_URL": queue_url, "DATABASE_URL": database_url,
        "MOLLM_PANEL": str(tmp_path / "panel.toml"),
        "MOLLM_SWEEP_SECONDS": "2", "MOLLM_REFIT_EVERY": "200", "LABEL_STUDIO_URL": url,
        "LABEL_STUDIO_API_KEY": TOKEN, "MOLLM_CHUNK_TEXTS": str(CHUNK),
    }  # fmt: skip
    asked = tmp_path / "asked"
    slow = [sys.executable, "-m", "tests.faults.slow_worker", str(asked), str(CHUNK_SECONDS)]
    workers = [
        Restartable(lambda: running(slow, environment, tmp_path / "worker.log", signal.SIGKILL))
        for _ in range(1 if where == "embedded" else 2)
    ]
    queue = Restartable(lambda: running(command, dict(os.environ), tmp_path / "valkey.log", signal.SIGTERM))
    studio = Restartable(lambda: label_studio(tmp_path / "studio", port=port))
    rng = np.random.default_rng(1)
    with ExitStack() as stack:
        for part in (studio, queue):
            part.start()
            stack.callback(part.stop)
        _until(lambda: valkey.answers(queue_url), 300)
        opened = queues.connect(queue_url)
        stack.callback(opened.close)
        backend_url = stack.enter_context(
            receiver(lambda number: queues.nudge(opened, number), np.random.default_rng(2))
        )
        client = LabelStudioClient(url, TOKEN)
        stack.callback(client.close)
        project = client.create_project("a bad day", CONFIG)
        rows = [{"text": text} for text in texts]
        parts = [client.import_tasks(project, rows[start : start + 2500]) for start in range(0, TASKS, 2500)]
        ids = [number for part in parts for number in part]
        base = [{"task": task, "model_version": "base", "score": rank_score(n), "result": result("cat")}
                for n, task in enumerate(ids)]  # fmt: skip
        assert client.import_predictions(project, base).created == TASKS
        store = Store(database_url)
        stack.callback(store.close)
        settings = Settings(home=tmp_path, basic_auth_password="b", webhook_secret="w")
        connect(store, client, settings, project, backend_url, check_order=False)
        people = People(client, project, ids, texts, seed=3)
        for worker in workers:
            worker.start()
            stack.callback(worker.stop)
        turns = cycle(workers)

        faults = ["worker"] * WORKER_KILLS + ["valkey"] * VALKEY_RESTARTS + ["wipe"] * VALKEY_WIPES
        faults += ["studio"] * STUDIO_RESTARTS
        plan = dict(zip(np.linspace(0.05, 0.97, len(faults)) * ANNOTATIONS, rng.permutation(faults), strict=True))

        def wipe() -> None:
            _until(lambda: valkey.answers(queue_url), 300)  # it may just have been restarted
            opened.flushall()

        strike = {
            "worker": lambda: next(turns).restart(),
            "valkey": queue.restart,
            "wipe": wipe,
            "studio": studio.restart,
        }
        for at, fault in plan.items():
            while people.done < at:
                people.act()
            strike[str(fault)]()
        while people.done < ANNOTATIONS:
            people.act()
        for worker in workers:
            worker.restart()  # an ordinary new start: everything that was lost must be found by then
        expected = exported(client, project)
        started = time.monotonic()
        there = {task.id: task.data["text"] for task in client.tasks(project)}
        with suppress(TimeoutError):
            _until(lambda: stored(store, project) == expected and texts_of(store, project) == there, 1800)
        seconds = time.monotonic() - started
        _until(lambda: not any(progress.count(store, projects.get(store, project)).left.values()), 3600)
        have = stored(store, project)
        lost, wrong = set(expected) - set(have), {key for key in have if have[key] != expected.get(key)}
        how = {row.annotation_id: row.provenance for row in labels.every(store, project)}
        lines = asked.read_text().split()
        again = len(lines) - len(set(lines))
        off = {key for key, provenance in people.how.items() if how.get(key) != provenance}
        print(
            f"{where}, {len(workers)} worker(s): {TASKS} tasks, {people.done} annotations made, "
            f"{len(expected)} there at the end: lost {len(lost)}, "
            f"wrong {len(wrong)}, provenance wrong {len(off)}; {WORKER_KILLS} kills, the queue {VALKEY_RESTARTS} times "
            f"restarted and {VALKEY_WIPES} emptied, Label Studio restarted {STUDIO_RESTARTS} times; "
            f"settled after {seconds:.0f} s; {people.busy} clicks again because Label Studio was busy\n"
            f"the LLM was asked again for {again} of {len(lines)} texts (bar: {WORKER_KILLS * CHUNK}, a chunk a kill); "
            + rounds(store, project)
        )
        assert set(lines) >= {digest(text) for text in there.values()}
        assert again <= WORKER_KILLS * CHUNK
        assert (lost, wrong, off) == (set(), set(), set())
        assert set(people.how) == set(expected)
        assert texts_of(store, project) == there
        # A small run may settle before it trains; at the end no edited text is left with the old one's prediction.
        _until(lambda: all_predicted(store, project), 3600)
        assert projects.get(store, project).attention == ""


def _until(met: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.5)
