"""`mollm status`: what runs, where each project stands, and what to do next, on one screen."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Any

import httpx
import redis
import typer
from rich.console import Group
from rich.live import Live
from rich.text import Text

from mollm_backend import settings
from mollm_backend.cli.terminal import AsJson, bar, console
from mollm_backend.settings import Settings
from mollm_backend.store import Store, projects, signals
from mollm_backend.work import overview, queues, workers
from mollm_backend.work.noting import Running
from mollm_backend.work.overview import Overview

REFRESH = 2.0  # seconds between two looks of --watch: what runs is noted once a second, and a look takes part of one
SERVER_SECONDS = 2.0  # for which a server may keep `mollm status` waiting
NOTHING = "No project is connected yet."
START = "`mollm up` starts the queue, the web backend and a worker; `make demo` also a Label Studio to try it on"
CONNECT = "`mollm connect N`, with N as in .../projects/N of the project's page in Label Studio"


@dataclass(frozen=True)
class Services:
    """What of mollm and Label Studio answers now. Addresses are "" where none is set; `away`: LLMs that did not."""

    queue: bool
    workers: int
    backend: str
    backend_up: bool
    label_studio: str
    label_studio_up: bool
    away: tuple[str, ...]

    def parts(self) -> Iterator[tuple[str, bool]]:
        """Each in words, and whether it is well."""
        if not self.queue:
            yield "queue not running", False
        else:
            yield "queue running", True
            count = f"{self.workers} {'worker' if self.workers == 1 else 'workers'}"
            yield (count, True) if self.workers else ("no worker", False)
        if self.backend_up:
            yield f"web backend {self.backend}", True
        else:
            yield "web backend not running", False
        if not self.label_studio:
            yield "Label Studio not set", False
        else:
            yield (
                f"Label Studio {self.label_studio}" + ("" if self.label_studio_up else " does not answer"),
                (self.label_studio_up),
            )
        if self.away:
            yield f"away: {', '.join(self.away)}", False


@dataclass(frozen=True)
class Status:
    """One look at everything."""

    services: Services
    projects: tuple[Overview, ...]
    next_step: str

    def as_json(self) -> dict[str, Any]:
        return {
            "services": asdict(self.services), "projects": [row.as_json() for row in self.projects],
            "next_step": self.next_step,
        }  # fmt: skip


def status(
    project: Annotated[int | None, typer.Argument(metavar="PROJECT", help="One project; default: all.")] = None,
    watch: Annotated[bool, typer.Option("--watch", "-w", help="Keep looking, until Ctrl-C.")] = False,
    json_output: AsJson = False,
) -> None:
    """Show on one screen what runs, how far it is, what waits for people, and what to do next.

    Examples: `mollm status`, `mollm status 12 --watch`.
    """
    if watch and json_output:
        raise typer.BadParameter("--watch is for people: a program asks for --json again.")
    loaded = settings.load()
    store = Store(loaded.store_url)
    connection = queues.connect(loaded.queue_url)
    found = _look(loaded, store, connection, project)
    if json_output:
        print(json.dumps(found.as_json()))
    elif watch:
        _watch(found, loaded, store, connection, project)
    else:
        console.print(_screen(found), soft_wrap=True)


def _watch(found: Status, loaded: Settings, store: Store, connection: redis.Redis, project: int | None) -> None:
    """Look again and again until Ctrl-C; where the output is a file, write what has changed."""
    try:
        if not console.is_terminal:
            before = ""
            while True:
                if (text := _screen(found).plain) != before:
                    console.print(text, soft_wrap=True, highlight=False, markup=False)
                before = text
                time.sleep(REFRESH)
                found = _look(loaded, store, connection, project)
        with Live(_watched(found), console=console, auto_refresh=False, screen=True) as live:
            while True:
                time.sleep(REFRESH)
                found = _look(loaded, store, connection, project)
                live.update(_watched(found), refresh=True)
    except KeyboardInterrupt:
        console.print(_screen(found), soft_wrap=True)


def _watched(found: Status) -> Group:
    return Group(_screen(found), Text(f"\n{time.strftime('%H:%M:%S')}, Ctrl-C ends this look", style="dim"))


def _look(loaded: Settings, store: Store, connection: redis.Redis, project: int | None) -> Status:
    """Raises InputError for a project that was never connected."""
    chosen = projects.every(store) if project is None else [projects.get(store, project)]
    rows = tuple(overview.of(store, connection, row, loaded.batch_size) for row in chosen)
    services = _services(loaded, store, connection)
    return Status(services, rows, _next_step(services, rows))


def _services(loaded: Settings, store: Store, connection: redis.Redis) -> Services:
    try:
        count, queue = len(workers.every(connection)), bool(connection.ping())
    except redis.RedisError:
        count, queue = 0, False
    backend = loaded.running_backend() or loaded.backend_url
    absent = signals.absent(store)
    away = {row.name for one in projects.every(store) for row in one.panel if row.fingerprint in absent}
    url = loaded.label_studio_url
    return Services(
        queue, count, backend, _answers(f"{backend}/health"), url, _answers(f"{url}/api/version/"),
        tuple(sorted(away)),
    )  # fmt: skip


def _answers(url: str) -> bool:
    """Whether a server answers there at all."""
    try:
        return httpx.get(url, timeout=SERVER_SECONDS, follow_redirects=True).status_code < 500
    except (httpx.HTTPError, httpx.InvalidURL):
        return False


def _next_step(services: Services, rows: tuple[Overview, ...]) -> str:
    """What to do before any project can go on; "" where each project says itself."""
    if not services.queue:
        return START
    if not services.workers:
        return "wait where `mollm up` has just started; else end it and start it again, its worker is gone"
    return "" if rows else CONNECT


def _screen(found: Status) -> Text:
    """The whole screen as lines."""
    lines = [Text("   ").join(Text(words, "green" if well else "red") for words, well in found.services.parts())]
    for row in found.projects:
        lines += [Text(), *_project(row)]
    if not found.projects:
        lines += [Text(), Text(NOTHING)]
    if found.next_step:
        lines += [Text(), Text("next: ", "bold") + found.next_step]
    return Text("\n").join(lines)


def _project(row: Overview) -> Iterator[Text]:
    yield Text(f"{row.project_id} {row.title}", "bold")
    yield Text(f"  {bar(row.read_share)} {row.reading()}")
    yield Text(f"  {row.labelling()}")
    for one in row.running:
        yield Text(f"  {_running(one)}", "cyan")
    version = f"version {row.version}" if row.version else "no version yet"
    yield Text(f"  {version}" + (f"; {row.trust}" if row.trust else ""))
    if row.pinned:
        yield Text(f"  {row.pinned}", "yellow")
    if row.warning:
        yield Text(f"  warning: {row.warning}", "red")
    yield Text("  next: ", "bold") + Text(row.next_step, "")


def _running(one: Running) -> str:
    share = one.share()
    return one.line() if share is None else f"{bar(share)} {one.line()}"
