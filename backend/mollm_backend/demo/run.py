"""`mollm up`, told in order: what is started, what is waited for, and what is told on the way."""

from __future__ import annotations

import contextlib
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import redis
from pydantic import SecretStr
from sqlalchemy.exc import SQLAlchemyError

from mollm.errors import ConfigError
from mollm_backend.demo import links, texts
from mollm_backend.demo.project import DemoProject, write_private
from mollm_backend.demo.setup import Setup
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.ssrf import is_local
from mollm_backend.settings import DEMO_FILE, FILE, Settings, note_backend, password_file
from mollm_backend.store import Store, answer_errors, events, projects
from mollm_backend.store.projects import Project
from mollm_backend.supervisor import label_studio, llama_cpp, parts, ports, valkey
from mollm_backend.supervisor.processes import Family
from mollm_backend.wheels import Tell
from mollm_backend.work import overview, queues

LABEL_STUDIO_SECONDS = 1800.0  # it takes a minute on an idle machine; a process that ended is noticed at once
# Both are smaller than the usual 50, so that a person soon sees the mixture learn.
DEMO_REFIT_EVERY = 10
DEMO_BATCH_SIZE = 20


@dataclass(frozen=True)
class TaskFile:
    """The user's own texts for the demo."""

    path: Path
    text_column: str = ""
    label_column: str = ""
    labels: tuple[str, ...] = ()

    def read(self) -> texts.Texts:
        return texts.from_file(self.path, self.text_column, self.label_column, self.labels)


@dataclass
class Up:
    """One run of `mollm up`; `family` ends all processes that it starts."""

    settings: Settings
    family: Family
    tell: Tell
    environment: dict[str, str] = field(default_factory=dict)
    last_event: int = 0
    listening: socket.socket | None = None

    def __post_init__(self) -> None:
        self.setup = Setup.for_demo(self.settings, self.family, self.tell)
        self.llama_cpp = llama_cpp.Servers(self.settings, self.family, self.tell)

    @property
    def home(self) -> Path:
        return self.settings.home

    def servers(self) -> tuple[Store, str]:
        """Open and migrate the store, start the queue's server and the web backend. Returns the store and the URL."""
        store = Store(self.settings.store_url)
        newest = events.newest(store, 1)
        self.last_event = newest[0].id if newest else 0
        if self.settings.redis_url:
            if not valkey.answers(self.settings.redis_url):
                raise ConfigError("Nothing answers at REDIS_URL: start that server, or unset REDIS_URL for our own.")
        else:
            valkey.start(self.family, self.home / "valkey", self.settings.queue_url)
        queues.release_all(queues.connect(self.settings.queue_url))  # their causes may be mended now
        answer_errors.try_at_once(store)
        # This process keeps the socket open: during a restart of the web server, requests wait in its queue.
        self.listening = server = ports.listen(self.settings.host, self.settings.port)
        url = self.settings.backend_url or f"http://{ports.reachable(self.settings.host)}:{server.getsockname()[1]}"
        note_backend(self.home, url)
        self.settings = self.settings.model_copy(update={"backend_url": url, "redis_url": self.settings.queue_url})
        self.environment |= {"MOLLM_HOME": str(self.home), "MOLLM_BACKEND_URL": url}
        self.environment["REDIS_URL"] = self.settings.queue_url
        if self.settings.panel:  # it may be of this run alone (`mollm up --panel`)
            self.environment["MOLLM_PANEL"] = self.settings.panel
        self.family.start(parts.web(server, self.environment))
        return store, url

    def worker(self) -> None:
        self.llama_cpp.wait()
        self.family.settled = True  # the worker is the last part: a later stop interrupts no set-up
        self.family.start(parts.worker(self.environment))

    def label_studio(self, first_port: int) -> tuple[str, label_studio.Account]:
        """Install and start Label Studio, and fetch the models at the same time. Returns its URL and the account."""
        port = 0

        def start() -> None:
            nonlocal port
            port = ports.free_port("127.0.0.1", first_port)
            self.tell(f"Label Studio starts on port {port} (about a minute the first time)")
            self.family.start(label_studio.program(self.home, "127.0.0.1", port))

        self.setup.complete(then=start)
        self.llama_cpp.start()
        url = f"http://127.0.0.1:{port}"
        self._wait_for_label_studio(url)
        who = label_studio.account(self.home)
        self.environment |= {"LABEL_STUDIO_URL": url, "LABEL_STUDIO_API_KEY": who.token}
        return url, who

    def _wait_for_label_studio(self, url: str) -> None:
        deadline = time.monotonic() + LABEL_STUDIO_SECONDS
        while not label_studio.is_ready(self.home, url):
            label_studio.require_alive(self.family)
            if time.monotonic() > deadline:
                raise ConfigError(f"Label Studio did not answer at {url} within {LABEL_STUDIO_SECONDS:.0f} s.")
            self.setup.still_at_it()
            time.sleep(0.5)

    def follow(self, store: Store) -> None:
        """Print each new event of the store and restart children that ended, until Stopped is raised."""
        try:
            while True:
                self.family.watch()
                self.llama_cpp.look()
                with contextlib.suppress(SQLAlchemyError):  # if the database is busy, it is read again a second later
                    for event in reversed(events.newest(store, 200, after=self.last_event)):
                        self.tell(event.line if event.kind != "problem" else f"problem: {event.line}")
                        self.last_event = event.id
                time.sleep(1.0)
        finally:
            self.llama_cpp.forget()


def run(settings: Settings, family: Family, tell: Tell) -> None:
    """`mollm up` with a Label Studio that already runs. It ends only with an exception."""
    up = Up(settings, family, tell)
    store, url = up.servers()
    Setup.for_panel(settings, family, tell).complete()
    up.llama_cpp.start()
    parts.wait_for_web(family, url)
    up.worker()
    secret = password_file(settings.shared_dir)
    tell(f"web backend and status page: {url}/  user {settings.basic_auth_user}  password in {secret}")
    if unset := settings.label_studio_unset():
        tell(f"problem: {' and '.join(unset)} not set: the worker cannot do anything. Ctrl-C, write them into "
             f"{settings.home / FILE} (or export them), start again")  # fmt: skip
    for line in moved(projects.every(store), url):
        tell(line)
    known = where_it_stands(store, queues.connect(up.settings.queue_url), settings.batch_size)
    for line in known or ["next, in another terminal: `mollm connect N` (N as in .../projects/N of its page)"]:
        tell(line)
    up.follow(store)


def run_demo(settings: Settings, family: Family, tell: Tell, *, tasks: TaskFile | None, limit: int, port: int) -> None:
    """`mollm up --demo`; returns only by an exception. Removes `home/demo.json` on the way out."""
    given = tasks.read() if tasks else None  # an unreadable file is told of before minutes of set-up
    chosen = settings.model_copy(update=_demo_values(settings))
    up = Up(chosen, family, tell)
    up.environment |= {"MOLLM_REFIT_EVERY": str(chosen.refit_every), "MOLLM_BATCH_SIZE": str(chosen.batch_size)}
    facts = settings.home / DEMO_FILE
    facts.unlink(missing_ok=True)  # left by a killed run
    try:
        store, backend_url = up.servers()
        url, who = up.label_studio(port)
        content = given or texts.from_corpus(settings.models_dir / texts.CORPUS)
        up.settings = up.settings.model_copy(update=_server(url, who.token))
        with contextlib.closing(LabelStudioClient.of(up.settings)) as client:
            project = DemoProject(settings.home, client, content.first(limit) if limit else content)
            number = project.ensure()
            parts.wait_for_web(family, backend_url)
            links.connect_demo(store, client, up.settings, number, project.texts)
            links.connect_others(store, client, up.settings, number, tell)
        up.worker()
        queue = queues.connect(up.settings.queue_url)
        queues.nudge(queue, number)
        told = {"label_studio_url": url, "token": who.token, "project": number}
        write_private(facts, told | {"backend_url": backend_url, "dashboard_url": f"{backend_url}/"})
        _welcome(tell, up.settings, url, number, who)
        for line in where_it_stands(store, queue, chosen.batch_size):
            tell(line)
        up.follow(store)
    finally:
        facts.unlink(missing_ok=True)


def moved(every: Sequence[Project], url: str) -> list[str]:
    """Lines about projects that were connected to another port of this machine and cannot reach the backend now."""
    known = {row.id: str(row.connection.get("backend_url", "")) for row in every if row.connected}
    return [
        f"problem: project {number} is connected to {before}, not to {url}: run `mollm connect {number}`"
        for number, before in known.items()
        if is_local(before) and urlsplit(before).port != urlsplit(url).port
    ]


def where_it_stands(store: Store, connection: redis.Redis, batch_size: int) -> list[str]:
    """One line for each project: what is read and labelled, what waits for people, and the version."""
    return [overview.of(store, connection, project, batch_size).line() for project in projects.every(store)]


def _demo_values(settings: Settings) -> dict[str, object]:
    """The demo's refit and batch sizes, for those that the user has not set."""
    own = {"refit_every": DEMO_REFIT_EVERY, "batch_size": DEMO_BATCH_SIZE}
    return {name: value for name, value in own.items() if name not in settings.model_fields_set}


def _server(url: str, token: str) -> dict[str, object]:
    return {"label_studio_url": url, "label_studio_api_key": SecretStr(token)}


def _welcome(tell: Tell, settings: Settings, url: str, project: int, who: label_studio.Account) -> None:
    tell(f"Label Studio: {url}/projects/{project}  user {who.user}  password {who.password}")
    password = settings.basic_auth_password.get_secret_value()
    tell(f"status page:  {settings.backend_url}/  user {settings.basic_auth_user}  password {password}")
    tell(
        'next: log in, press "Label All Tasks", correct or submit. '
        f"After {settings.refit_every} labels the mixture learns from you. Ctrl-C ends everything."
    )
    tell(f"in another terminal: `{_typed(settings)} status --watch`, `{_typed(settings)} doctor {project}`")


def _typed(settings: Settings) -> str:
    """How `mollm` is typed in a new terminal, so that it finds this home."""
    usual = Path(Settings.model_fields["home"].default).expanduser().resolve()
    home = "" if settings.home == usual else f"MOLLM_HOME={shlex.quote(str(settings.home))} "
    program = Path(sys.argv[0])
    if shutil.which("mollm") == str(program) or program.name != "mollm":
        return f"{home}mollm"
    inside = program.is_absolute() and program.is_relative_to(Path.cwd())
    return f"{home}{shlex.quote(str(program.relative_to(Path.cwd()) if inside else program))}"
