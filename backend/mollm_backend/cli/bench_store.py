"""`mollm bench store`: what the bookkeeping of a project costs and how it grows; no LLM is asked, nothing is sent."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from mollm.records import LabelSet, Provenance, digest
from mollm_backend import settings
from mollm_backend.store import Store, batches, changes, labels, projects, signals, tasks, versions
from mollm_backend.store.decisions import Decision, Source
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.signals import Cost, SignalRow
from mollm_backend.store.tasks import Task
from mollm_backend.work.measured import STORE, remember

if TYPE_CHECKING:
    import redis

    from mollm_backend.jobs.runtime import Runtime

SIZES = [1_000, 10_000, 100_000]  # powers of ten, so that the slope is seen
LARGEST = 1_000_000  # minutes to fill, and some GB of disk
PROJECT = 1
CHUNK = 1_024  # answers that a reading stores at once, at most
MEMBERS = 3  # annotators: a usual panel has two to five
BATCH = 250  # entries of a batch that was refilled a few times
TOUCHED = 50  # tasks that a usual reconciliation lists: those of the last minute
REPEATS = 5  # of a measurement that is short; the median is told
LONG = 1.0  # seconds: what takes longer is measured once
URL = "http://127.0.0.1:9"
STAMP = "2026-01-01T00:00:00.000000Z"
ASKED = (Decision("label", (Source("text", "text"),), LabelSet(("a", "b", "c", "d"))),)


def store(
    rows: Annotated[list[int] | None, typer.Option(min=40, help="repeatable; default: 1,000 to 100,000")] = None,
    largest: Annotated[
        bool, typer.Option("--largest", help="1,000,000 rows too: minutes, and some GB of disk")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """Seconds of the bookkeeping on made-up projects of more and more rows, and how they grow.

    A project of N rows has N tasks, N human annotations, N predictions and N answers of each of three annotators.
    Bytes and writing speed of the largest size are kept for `mollm plan`.
    `slope` is of the logarithms: 1 is linear, 0 is a cost that does not depend on N.
    """
    from mollm_backend.supervisor import valkey
    from mollm_backend.supervisor.processes import Family
    from mollm_backend.work import queues

    found: dict[int, dict[str, float]] = {}
    kept: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="mollm-bench-") as name:
        home = Path(name)
        family, url = Family(home, _tell), f"unix://{home / 'valkey' / 'valkey.sock'}"
        with family.until_stopped():
            valkey.start(family, home / "valkey", url)
            connection = queues.connect(url)
            for size in sorted(rows or [*SIZES, *([LARGEST] if largest else [])]):
                _tell(f"mollm: a project of {size:,} rows")
                connection.flushall()
                opened = Store(f"sqlite:///{home / f'{size}.db'}")
                found[size], kept = measured(opened, connection, home, size)
                opened.close()
    remember(settings.load().home, STORE, kept)
    if as_json:
        print(json.dumps({"rows": found, "slope": slopes(found)}))
    else:
        _print(found, slopes(found))


def measured(opened: Store, connection: redis.Redis, home: Path, N: int) -> tuple[dict[str, float], dict[str, Any]]:
    """Fill a store that has no project yet, and measure each kind of bookkeeping once: seconds, or statements.

    And what `mollm plan` needs: the bytes of a task and of an answer, and what writing answers takes.
    """
    from mollm_backend import jobs
    from mollm_backend.jobs import due
    from mollm_backend.labelstudio.events import AskedTask
    from mollm_backend.labelstudio.reconcile import reconcile
    from mollm_backend.view import project as view
    from mollm_backend.view import render
    from mollm_backend.web import lookup

    upsert, kept = _fill(opened, N)
    found = {"bulk upsert of the tasks": upsert, "bytes of a task": kept["text_bytes"],
             "bytes of an answer": kept["answer_bytes"]}  # fmt: skip
    runtime = _offline(opened, connection, home, N)
    client, asked = runtime.client(), [AskedTask(N, {"text": text_of(N)})]

    def project() -> Project:
        return projects.get(opened, PROJECT)

    found["first sweep"] = seconds(lambda: due.sweep(runtime), once=True)
    found["idle sweep"] = seconds(lambda: due.sweep(runtime))
    with statements(opened) as told:
        due.sweep(runtime)
    found["statements of an idle sweep"] = len(told)
    found["reconcile, some tasks listed"] = seconds(lambda: reconcile(opened, client, PROJECT))
    found["reconcile, all tasks listed"] = seconds(lambda: reconcile(opened, client, PROJECT, full=True))
    found["status page"] = seconds(lambda: render.project_page(view.state(opened, connection, project()), actions=None))
    found["/predict of one task"] = seconds(lambda: lookup.answers(opened, project(), asked))
    _label(opened, range(N + 1, N + 10), N)
    found["sweep after a label"] = seconds(lambda: due.sweep(runtime), once=True)
    found["refit"] = seconds(lambda: _read_for_a_refit(runtime, project()))
    _batch(opened, "dry", range(1, min(BATCH, N // 4) + 1))  # all of it is labelled
    jobs.install(runtime)
    found["publish and refill"] = seconds(lambda: jobs.publish(PROJECT), once=True)
    return found, kept


def seconds(work: Callable[[], object], *, once: bool = False) -> float:
    """How long it takes: the median of some runs, or one run of what is long or changes what is there."""
    times: list[float] = []
    while len(times) < (1 if once or sum(times) > LONG else REPEATS):
        started = time.perf_counter()
        work()
        times.append(time.perf_counter() - started)
    return float(np.median(times))


@contextmanager
def statements(opened: Store) -> Iterator[list[str]]:
    """The SQL that is sent while the block runs, BEGIN and COMMIT left out."""
    import sqlalchemy as sa

    told: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if not statement.startswith("BEGIN"):
            told.append(statement)

    sa.event.listen(opened.engine, "before_cursor_execute", note)
    try:
        yield told
    finally:
        sa.event.remove(opened.engine, "before_cursor_execute", note)


def slopes(found: dict[int, dict[str, float]]) -> dict[str, float]:
    """The growth of each measurement in the logarithms of rows and seconds; nothing for one size alone."""
    sizes = np.log(list(found))
    if len(sizes) < 2:
        return {}
    names = next(iter(found.values()))
    return {name: float(np.polyfit(sizes, np.log([row[name] for row in found.values()]), 1)[0]) for name in names}


def text_of(number: int) -> str:
    """A text of a usual length."""
    return f"made-up text number {number} " + "word " * 30


def _fill(opened: Store, N: int) -> tuple[float, dict[str, Any]]:
    """A project of N rows with nothing left to do. Returns the seconds of writing its tasks, and what `mollm plan`
    needs."""
    panel = tuple(PanelMember(f"llm-{m}", f"print-{m}") for m in range(MEMBERS))
    empty = opened.size()
    projects.save(opened, Project(PROJECT, URL, "bench", STAMP, "<View/>", ASKED, panel, reconciled_at=_ago(0)))
    rows = [Task(n, digest(json.dumps({"text": text_of(n)})), text_of(n), "", STAMP) for n in range(1, N + 1)]
    taken = seconds(lambda: tasks.upsert(opened, PROJECT, rows), once=True)
    probs, keys = np.array([0.7, 0.1, 0.1, 0.1]), [row.item.text_key for row in rows]
    before = opened.size()
    kept: dict[str, Any] = {"rows": N, "database": opened.engine.dialect.name, "seconds": [], "answers": []}
    for member in panel:
        for start in range(0, N, CHUNK):
            rows_ = [SignalRow(key, probs, probs) for key in keys[start : start + CHUNK]]
            cost = Cost(calls=1, texts=len(rows_))
            kept["seconds"].append(seconds(partial(signals.save, opened, member, PROJECT, rows_, cost), once=True))
            kept["answers"].append(len(rows_))
    answered = opened.size()
    _label(opened, range(1, N + 1), N)
    labelled = opened.size()
    facts = {
        "panel": [member.fingerprint for member in panel], "read": N, "silent": [], "pool": N,
        "labels_at": labels.revision(opened, PROJECT),
        "label_rows": sorted(labels.row_keys(labels.human_labels(labels.every(opened, PROJECT)))),
        "gate": "accepted", "scores": {}, "losses": {},
    }  # fmt: skip
    told = [versions.StoredPrediction(n, keys[n - 1], "a", 0.5 + n / N / 2, probs) for n in range(1, N + 1)]
    versions.save(
        opened,
        PROJECT,
        versions.Version("v1", 0, "candidate", N, facts, _ago(1), changes.newest(opened, PROJECT)),
        told,
    )
    versions.publish(opened, PROJECT, "v1")
    kept["answer_bytes"] = (answered - before) / (N * MEMBERS)
    kept["text_bytes"] = (before - empty + opened.size() - labelled) / N
    _batch(opened, "open", range(N - min(BATCH, N // 4) + 1, N + 1))
    return taken, kept


def _ago(hours: float) -> str:
    return (datetime.now(UTC) - timedelta(hours=hours)).isoformat(timespec="milliseconds")


def _label(opened: Store, numbers: range, N: int) -> None:
    """Annotations by their numbers: two people label the first half of the tasks."""
    at, names, how = _ago(2), ASKED[0].labels.names, Provenance.FROM_SCRATCH
    rows = ((n, 1 + (n - 1) % (N // 2), 1 + (n > N // 2), names[n % 4]) for n in numbers)
    labels.upsert(
        opened, PROJECT, [Annotation(*row, was_cancelled=False, provenance=how, updated_at=at) for row in rows]
    )


def _batch(opened: Store, name: str, task_ids: range) -> None:
    """A batch of these tasks, published and current."""
    entries = [batches.StoredEntry(task_id, rank, "v1", "a", 0.5, "made up") for rank, task_id in enumerate(task_ids)]
    batches.save(opened, PROJECT, name, entries)
    batches.mark_published(opened, PROJECT, name, task_ids)
    projects.change(opened, PROJECT, batch_version=name)


def _read_for_a_refit(runtime: Runtime, project: Project) -> None:
    """Decide whether to train, and read all that a training reads from the store."""
    from mollm_backend.jobs import due, pools
    from mollm_backend.work import progress

    due.why_train(runtime, project)
    progress.count(runtime.store, project)
    for pool in pools.read_pools(runtime, project):
        labels.row_keys(pool.human)
        _ = pool.targets, pool.label_keys, pool.open_items


def _offline(opened: Store, connection: redis.Redis, home: Path, N: int) -> Runtime:
    """A worker's runtime whose Label Studio holds just what the store holds, and takes all that is sent."""
    from mollm_backend.jobs.runtime import Runtime
    from mollm_backend.labelstudio.client import Imported, LabelStudioClient, RemoteProject, RemoteTask
    from mollm_backend.settings import Settings

    class Studio(LabelStudioClient):
        def project(self, project_id: int) -> RemoteProject:
            order = "Uncertainty sampling"
            return RemoteProject(project_id, "bench", STAMP, "<View/>", order, "dry", 1, N, N, 0, True)

        def tasks(self, *_project: int, since: str = "") -> Iterator[RemoteTask]:
            for n in range(max(1, N - TOUCHED) if since else 1, N + 1):
                yield RemoteTask(n, {"text": text_of(n)}, STAMP, 2 if n <= N // 2 else 0)

        def annotations(self, *asked: Any) -> Iterator[tuple[int, list[dict[str, Any]]]]:
            yield from ((task_id, []) for task_id in asked[1])

        def tasks_with_version(self, *_named: object) -> set[int]:
            return set()

        def import_predictions(self, *given: Any) -> Imported:
            return Imported(len(given[1]))

        def patch_project(self, project_id: int, **values: Any) -> None:
            pass

    class Offline(Runtime):
        def client(self) -> LabelStudioClient:
            return Studio(URL, "none")

    return Offline(Settings(home=home), opened, connection)


def _tell(line: str) -> None:
    typer.echo(line, err=True)


def _print(found: dict[int, dict[str, float]], slope: dict[str, float]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("", *(f"{size:,} rows" for size in found), "slope")
    for name in next(iter(found.values())):
        plain = name.startswith(("statements", "bytes"))
        cells = (f"{row[name]:.0f}" if plain else f"{row[name]:.3g} s" for row in found.values())
        table.add_row(name, *cells, f"{slope[name]:.2f}" if slope else "")
    Console().print(table)
