"""llama.cpp's own server, one for each GGUF model of the panel: installed, started, looked at, and started anew.

`home/llama-cpp` is its environment (60 MB to fetch), from a prebuilt wheel. Each server listens on the loopback alone.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from mollm.config import AnnotatorConfig
from mollm.errors import AnnotatorUnavailable, ConfigError, MollmError
from mollm_backend import packages, served
from mollm_backend.served import SLOTS, Served
from mollm_backend.settings import Settings
from mollm_backend.supervisor import ports
from mollm_backend.supervisor.environments import LOCKS, Environment
from mollm_backend.supervisor.processes import Family, Program
from mollm_backend.wheels import Tell

NAME = "llama-cpp"
VERSION = "2026.10.11549"  # as in locks/llama-cpp.in
INSTALLS = (f"{NAME}-venv", f"{NAME}-install")  # the steps of its installation; the servers' names begin otherwise
FIRST_PORT = 9190  # a hundred behind the web backend's own, so that neither takes the other's
LOADING_SECONDS = 600.0  # chosen by hand: a large file on a slow disk; a process that ended is noticed at once
LOOK_EVERY = 10.0  # seconds between two looks at a server
MISSES = 6  # looks in a row without an answer (chosen by hand: a minute), after which a server is started anew
_SCRIPT = Path(__file__).with_name("llama_serve.py")


def environment(home: Path) -> Environment:
    lock = str(LOCKS / "llama-cpp.txt")
    return Environment(home / NAME, "xllamacpp", VERSION, ((INSTALLS[1], ("--requirement", lock)),))


def program(settings: Settings, model: Served, port: int) -> Program:
    """The server of a model. Raises ModelFileError where its file is not there."""
    file = packages.gguf_file(model.source, settings.models_dir)
    # As the worker, and more so: its threads wait for each other at every step, so one that has to wait for a core
    # stops all of them (a text of the demo on two busy cores: 16 s with two threads, 4 s with one).
    threads = settings.llama_cpp_threads or max(1, (os.cpu_count() or 2) - 1)
    numbers = map(str, (port, model.window, SLOTS, threads))
    command = (str(environment(settings.home).python), str(_SCRIPT), str(file), model.model, *numbers)
    # As nice as the worker: a person who opens a task is served first.
    return Program(_name(model), command, niceness=10)


def _name(model: Served) -> str:
    return f"{NAME}-of-{Path(model.source).stem if model.source.endswith('.gguf') else model.source.replace('/', '--')}"


def answers(url: str, seconds: float = 5.0) -> bool:
    """Whether a server answers: it does so once its model is loaded, however busy it is."""
    try:
        return httpx.get(f"{url}/v1/models", timeout=seconds, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@dataclass
class Servers:
    """The servers of one `mollm up`. `family` restarts one that ended; one that hangs is ended here."""

    settings: Settings
    family: Family
    tell: Tell
    urls: dict[str, str] = field(default_factory=dict)  # by the child's name
    misses: dict[str, int] = field(default_factory=dict)
    ready: dict[str, int] = field(default_factory=dict)  # the pid that has answered
    looked: float = 0.0

    def start(self) -> None:
        """Start one for each model of the panel whose file is there, and note where they are. A model without is told
        of, and the others go on."""
        noted, port = {}, FIRST_PORT
        for model in served.wanted(self.settings.panel_config().annotators):
            port = ports.free_port("127.0.0.1", port)
            try:
                server = program(self.settings, model, port)
            except MollmError as error:
                self.tell(f"problem: {error} The others go on without it.")
                continue
            self.family.start(server)
            noted[model.source] = self.urls[server.name] = f"http://127.0.0.1:{port}"
            self.tell(f"llama.cpp loads {model.model}")
            port += 1
        served.note(self.settings.home, noted)

    def wait(self) -> None:
        """Until each has loaded its model. One that does not come up is told of once, and the others go on."""
        deadline = time.monotonic() + LOADING_SECONDS
        for name, url in self.urls.items():
            child = self.family.children[name]
            while not answers(url):
                if child.process.poll() is not None or time.monotonic() > deadline:
                    self.tell(
                        f"problem: {name} did not start: {child.last_lines(1)} (all of it: {child.log}). "
                        "The others go on without it."
                    )
                    break
                time.sleep(0.2)

    def look(self) -> None:
        """End a server that has stopped to answer: the family starts it anew. Call this every second."""
        if time.monotonic() - self.looked < LOOK_EVERY:
            return
        for name, url in self.urls.items():
            child = self.family.children.get(name)
            if child is None or child.process.poll() is not None:
                continue
            if answers(url):
                self.misses[name], self.ready[name] = 0, child.process.pid
                continue
            loading = self.ready.get(name) != child.process.pid
            if loading and time.monotonic() - child.started_at < LOADING_SECONDS:
                continue
            self.misses[name] = self.misses.get(name, 0) + 1
            if loading or self.misses[name] >= MISSES:
                self.misses[name] = 0
                self.tell(f"{name} does not answer: it is started anew")
                child.process.kill()
        self.looked = time.monotonic()

    def forget(self) -> None:
        """They end with this `mollm up`: nobody is to ask them any more."""
        served.note(self.settings.home, {})


@contextlib.contextmanager
def lent(settings: Settings, config: AnnotatorConfig, tell: Tell) -> Iterator[AnnotatorConfig]:
    """The annotator with its server's address, for a command: that of `mollm up` where it runs, else one of its own,
    which ends with this context. Other runtimes are given back as they are.

    Installs llama.cpp where it is not there (the model's file must be). Raises ConfigError, ModelFileError,
    AnnotatorUnavailable.
    """
    models = served.wanted([config])
    running = served.reached(config, settings.home)
    if not models or (running.urls and answers(running.urls[0])):
        yield running
        return
    install(settings.home, tell)
    port = ports.free_port("127.0.0.1", FIRST_PORT)
    server, url = program(settings, models[0], port), f"http://127.0.0.1:{port}"
    log = settings.home / "logs" / f"{server.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    tell(f"llama.cpp loads {config.model}")
    with log.open("wb") as out, subprocess.Popen(server.command, stdout=out, stderr=subprocess.STDOUT) as process:
        try:
            deadline = time.monotonic() + LOADING_SECONDS
            while not answers(url):
                if process.poll() is not None or time.monotonic() > deadline:
                    raise AnnotatorUnavailable(f"{config.name}: its llama.cpp server did not start: see {log}.")
                time.sleep(0.2)
            yield config.model_copy(update={"url": url, "concurrency": min(config.concurrency, SLOTS)})
        finally:
            process.kill()


def install(home: Path, tell: Tell) -> None:
    """Install llama.cpp where it is not there, in this process's time (a minute). Raises ConfigError."""
    there = environment(home)
    for step in there.steps():
        tell(f"installing llama.cpp {VERSION}: {step.name}")
        done = subprocess.run(step.command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = ((done.stderr or done.stdout).strip().splitlines() or ["no output"])[-1]
            raise ConfigError(f"llama.cpp could not be installed into {there.directory}: {last}")
    if not there.is_installed():
        there.mark_installed()
