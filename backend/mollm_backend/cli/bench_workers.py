"""`mollm bench workers`: how reading grows with the number of workers, on a real queue and a real database."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated
from uuid import uuid4

import numpy as np
import psutil
import redis
import sqlalchemy as sa
import typer

from mollm import recording
from mollm.annotators import fingerprint
from mollm.config import PanelConfig
from mollm.errors import ConfigError, InputError
from mollm.records import Item, LabelSet, Signals
from mollm_backend.cli.terminal import AsJson, names_in, note, print_figures
from mollm_backend.jobs import due
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.settings import Settings
from mollm_backend.store import Store, projects, signals, tasks
from mollm_backend.store.decisions import Decision, Source
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.tasks import Task
from mollm_backend.supervisor import postgresql, valkey
from mollm_backend.supervisor.processes import ChildFailed, Family, Program
from mollm_backend.work import queues, workers

PROJECT = 1
NOWHERE = "http://127.0.0.1:9"  # the discard port: no Label Studio answers there
NEVER_AGAIN = "2999-01-01T00:00:00+00:00"  # reconciled then: no worker asks Label Studio meanwhile
LABELS = LabelSet(("a", "b", "c", "d"))
ASKED = (Decision("label", (Source("text", "text"),), LABELS),)
STARTED = 0.1  # of the texts: until then workers open the recording and find their chunk's size; it is not measured
STALLED = 120.0  # seconds without a single answer after which the bench gives up
LOOK = 0.1  # seconds between two looks at the ledger, which has a row for each annotator


@dataclass
class Run:
    """What one number of workers did. `memory` in MB: of each worker after the start, and its most after that."""

    workers: int
    texts_a_second: float = 0.0
    seconds: float = 0.0
    asked_twice: int = 0
    processor_ms_a_text: float = 0.0
    memory_start: list[float] = field(default_factory=list)
    memory_most: list[float] = field(default_factory=list)
    load: list[float] = field(default_factory=list)


def bench(
    workers: Annotated[str, typer.Option(help="Numbers of workers, separated by commas.")] = "1,2,4",
    texts: Annotated[int, typer.Option(min=100, help="Texts to read.")] = 20_000,
    delay_ms: Annotated[float, typer.Option(min=0, help="Milliseconds that the recorded LLM takes for a chunk.")] = 50,
    chunk: Annotated[int, typer.Option(min=0, help="Texts of a chunk; 0: as many as a worker finds fit.")] = 16,
    llms: Annotated[int, typer.Option(min=1, help="Recorded LLMs, each of which reads all texts.")] = 1,
    database: Annotated[
        str, typer.Option(help="sqlite, postgresql (started from the installed programs), or a PostgreSQL's URL.")
    ] = "sqlite",
    redis_url: Annotated[str, typer.Option(help="An empty Redis or Valkey; default: one is started.")] = "",
    json_output: AsJson = False,
) -> None:
    """Texts a second with several numbers of workers, which share the reading of made-up texts by recorded LLMs.

    Each number of workers begins with an empty database (on a PostgreSQL of yours: made for it, then dropped). A text
    counts once for each LLM. What other programs do on this machine changes the figures: compare within one run.
    """
    counts = [int(word) for word in names_in(workers) if word.isdecimal() and int(word)]
    if not counts or len(counts) < len(names_in(workers)):
        raise typer.BadParameter("--workers takes numbers, as in 1,2,4.")
    with tempfile.TemporaryDirectory(prefix="mollm-bench-") as name:
        bench = Bench(Path(name), texts, delay_ms / 1000, chunk, llms, Family(Path(name), note))
        with bench.family.until_stopped(), bench.queue(redis_url), _databases(database, Path(name)) as fresh:
            runs = [bench.run(count, fresh) for count in counts]
    _tell(runs, json_output, {"texts": texts, "delay_ms": delay_ms, "chunk": chunk, "llms": llms, "database": database})


class Bench:
    """A recording of made-up texts, and what reads it again and again."""

    def __init__(self, home: Path, texts: int, delay: float, chunk: int, llms: int, family: Family) -> None:
        self.home, self.N, self.family = home, texts, family
        self.url = f"unix://{home / 'valkey' / 'valkey.sock'}"
        self.names = tuple(f"llm-{m + 1}" for m in range(llms))
        self.panel = home / "panel.toml"
        self.environment = {
            "MOLLM_HOME": str(home), "MOLLM_PANEL": str(self.panel), "MOLLM_CHUNK_TEXTS": str(chunk),
            "MOLLM_LOG_LEVEL": "WARNING", "LABEL_STUDIO_URL": NOWHERE,
        }  # fmt: skip
        self.texts = [f"made-up text number {n} " + "word " * 30 for n in range(texts)]
        self._record(home / "recording", delay)

    def _record(self, directory: Path, delay: float) -> None:
        N, M, C = self.N, len(self.names), LABELS.C
        rng = np.random.default_rng(0)
        probs = rng.dirichlet(np.ones(C), (N, M))
        votes = rng.multinomial(10, probs) / 10
        said = Signals(tuple(map(str, range(N))), self.names, LABELS.names, probs, votes)
        items = tuple(Item(str(n), text) for n, text in enumerate(self.texts))
        recording.save(directory, recording.Recording("made up", LABELS, items, said, np.full(N, -1), 10, 0.7, 0.9))
        one = '[[annotators]]\nname = "{}"\nruntime = "recording"\nmodel = "{}"\ndelay = {}\n'
        self.panel.write_text("".join(one.format(name, directory, delay) for name in self.names))

    @contextmanager
    def queue(self, url: str) -> Iterator[None]:
        """Start a queue, or take the one at `url`. Raises InputError where somebody else uses that."""
        if url:
            self.url = url
            if queues.connect(url).dbsize():
                raise InputError(f"The database at {url} holds something: name an empty one, such as {url}/9.")
        else:
            valkey.start(self.family, self.home / "valkey", self.url)
        self.environment["REDIS_URL"] = self.url
        yield

    def run(self, count: int, fresh: Callable[[], str]) -> Run:
        """Let so many workers read all."""
        database = fresh()
        connection = queues.connect(self.url)
        connection.flushdb()
        settings = Settings(home=self.home, redis_url=self.url, database_url=database, panel=self.panel)
        with closing(Store(database)) as store:
            self._fill(store)
            started = [self._worker(count, n, database) for n in range(count)]
            try:
                processes = _ready(self.family, started, connection, queues.reading(self.names[0]))
                projects.change(store, PROJECT, connected=True)
                due.sweep(Runtime(settings, store, connection))
                found = self._measure(store, Run(count), processes)
            finally:
                children = [self.family.children[name] for name in started]
                for child in children:
                    self.family.forget(child)
                for child in children:
                    child.process.wait(STALLED)
        connection.flushdb()
        return found

    def _fill(self, store: Store) -> None:
        panel = PanelConfig.load(self.panel)
        members = tuple(
            PanelMember(one.name, fingerprint(one, LABELS, panel.instruction, ())) for one in panel.annotators
        )
        made = Project(PROJECT, NOWHERE, "bench", "", "<View/>", ASKED, members, connected=False)
        projects.save(store, made)
        projects.change(store, PROJECT, reconciled_at=NEVER_AGAIN)
        tasks.upsert(store, PROJECT, [Task(n + 1, str(n), text) for n, text in enumerate(self.texts)])

    def _worker(self, count: int, number: int, database: str) -> str:
        command = (sys.executable, "-m", "mollm_backend.cli", "worker", "--queues", "annotate")
        name = f"worker-{count}-{number + 1}"
        self.family.start(Program(name, command, self.environment | {"DATABASE_URL": database}))
        return name

    def _measure(self, store: Store, found: Run, processes: list[psutil.Process]) -> Run:
        """From `STARTED` of the texts on, until all are read."""
        of, begun, before = self.N * len(self.names), 0.0, 0
        last, used = (time.monotonic(), 0), 0.0
        found.load.append(os.getloadavg()[0])
        while True:
            done, now = _charged(store), time.monotonic()
            if done > last[1]:
                last = now, done
            elif now - last[0] > STALLED:
                raise ChildFailed(f"No answer for {STALLED:.0f} s, {done} of {of} are there: see {self.family.logs}.")
            if not begun and done >= STARTED * of:
                begun, before, used = now, done, _processor(processes)
                found.memory_start = [_megabytes(process) for process in processes]
                found.memory_most = list(found.memory_start)
            if begun:
                found.memory_most = list(map(max, found.memory_most, map(_megabytes, processes)))
            if done >= of and not _left(store):
                break
            time.sleep(LOOK)
        found.seconds = now - begun
        found.texts_a_second = (of - before) / max(found.seconds, 1e-9)
        found.processor_ms_a_text = 1000 * (_processor(processes) - used) / max(of - before, 1)
        found.asked_twice = done - of
        found.load.append(os.getloadavg()[0])
        note(f"{found.workers} workers: {found.texts_a_second:,.0f} texts/s, load {found.load[-1]:.1f}")
        return found


@contextmanager
def _databases(which: str, home: Path) -> Iterator[Callable[[], str]]:
    """Gives the URL of an empty database each time. Raises ConfigError where PostgreSQL is not installed."""
    if which == "sqlite":
        yield lambda: f"sqlite:///{home / uuid4().hex}.db"
        return
    where = postgresql.programs()
    if which != "postgresql":
        with _made_on(which) as fresh:
            yield fresh
    elif where is None:
        raise ConfigError("PostgreSQL is not installed here: name a server, or --database sqlite.")
    else:
        with postgresql.server(where) as running, _made_on(running.url) as fresh:
            yield fresh


@contextmanager
def _made_on(server: str) -> Iterator[Callable[[], str]]:
    url, made = sa.make_url(server), list[str]()
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT")

    def fresh() -> str:
        made.append(f"mollm_bench_{uuid4().hex[:12]}")
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {made[-1]}"))
        return url.set(database=made[-1]).render_as_string(hide_password=False)

    try:
        yield fresh
    finally:
        with engine.connect() as connection:
            for name in made:
                connection.execute(sa.text(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
        engine.dispose()


def _ready(family: Family, names: list[str], connection: redis.Redis, queue: str) -> list[psutil.Process]:
    """The workers' processes, once all of them serve the queue."""
    deadline = time.monotonic() + STALLED
    while len(alive := workers.alive_on(connection, queue)) < len(names):
        ended = [name for name in names if family.children[name].process.poll() is not None]
        if ended or time.monotonic() > deadline:
            child = family.children[(ended or names)[0]]
            raise ChildFailed(f"A worker did not start: {child.last_lines()} (all of it: {child.log})")
        time.sleep(LOOK)
    return [psutil.Process(int(name.rsplit(".", 2)[1])) for name in alive]


def _charged(store: Store) -> int:
    return sum(cost.texts for cost in signals.costs(store, PROJECT).values())


def _left(store: Store) -> int:
    return sum(signals.unanswered(store, PROJECT, one.fingerprint) for one in projects.get(store, PROJECT).panel)


def _processor(processes: list[psutil.Process]) -> float:
    times = [process.cpu_times() for process in processes]
    return float(sum(one.user + one.system for one in times))


def _megabytes(process: psutil.Process) -> float:
    return float(round(process.memory_info().rss / 2**20, 1))


def _tell(runs: list[Run], as_json: bool, how: dict[str, object]) -> None:
    first = runs[0].texts_a_second
    figures = {
        str(run.workers): {
            "texts_a_second": round(run.texts_a_second, 1), "ratio": round(run.texts_a_second / first, 2),
            "asked_twice": run.asked_twice, "seconds": round(run.seconds, 2),
            "processor_ms_a_text": round(run.processor_ms_a_text, 3),
        }
        for run in runs
    }  # fmt: skip
    if as_json:
        more = {
            str(run.workers): {
                "memory_mb_start": run.memory_start, "memory_mb_most": run.memory_most,
                "load": [round(load, 2) for load in run.load],
            }
            for run in runs
        }  # fmt: skip
        rows = {name: row | more[name] for name, row in figures.items()}
        print(json.dumps(how | {"cores": os.cpu_count(), "workers": rows}))
        return
    for run in runs:
        figures[str(run.workers)] |= {"MB_most": max(run.memory_most), "load": round(run.load[-1], 1)}
    print_figures("workers", list(figures[str(runs[0].workers)]), figures)
