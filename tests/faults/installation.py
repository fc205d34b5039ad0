"""A whole installation of real parts in a directory: Label Studio, Valkey, the web backend, workers, a recorded panel.

Knows nothing of pytest. Everything that is started here is ended on leaving, and nothing else.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
import redis

from mollm import recording
from mollm.records import Item, LabelSet, Signals
from mollm_backend import settings as reading
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.errors import LabelStudioDown
from mollm_backend.settings import Settings
from mollm_backend.store import Store, changes, projects, versions
from mollm_backend.supervisor import parts, ports, valkey
from mollm_backend.supervisor.processes import Child, Family, Program
from mollm_backend.work import progress, queues

from ..real_label_studio import TOKEN, label_studio

T = TypeVar("T")
LABELS = LabelSet(("cat", "dog", "cow"))
CONFIG = (
    '<View><Text name="text" value="$text"/><Choices name="label" toName="text">'
    '<Choice value="cat"/><Choice value="dog"/><Choice value="cow"/></Choices></View>'
)
_SAYS = ("meow", "woof", "moo")


def all_predicted(store: Store, project: int) -> bool:
    """Whether the panel has read every task, and the published version has predicted from all its answers."""
    found = projects.get(store, project)
    version = versions.find(store, project, found.published_version)
    if version is None or any(progress.count(store, found).left.values()):
        return False
    return changes.newest(store, project) <= version.changes


def result(label: str) -> list[dict[str, Any]]:
    return [{"from_name": "label", "to_name": "text", "type": "choices", "value": {"choices": [label]}}]


def write_panel(directory: Path, count: int, annotators: Sequence[str] = ("first", "second")) -> tuple[Path, list[str]]:
    """Record a panel that is right for about 4 of 5 of `count` distinct texts; returns its TOML file and the texts."""
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=count)
    texts = [f"animal number {n} stands in the meadow and says {_SAYS[truth[n]]}" for n in range(count)]
    logits = rng.normal(0, 1, (count, len(annotators), 3))
    logits[np.arange(count), :, truth] += 2.0
    probs = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    panel = Signals(
        tuple(map(str, range(count))), tuple(annotators), LABELS.names, probs, rng.multinomial(10, probs) / 10
    )
    items = tuple(Item(str(n), text) for n, text in enumerate(texts))
    gold = np.full(count, -1)
    recording.save(
        directory / "recording", recording.Recording("animals", LABELS, items, panel, gold, 10, 0.7, 0.9)
    )  # fmt: skip
    lines = [
        f'[[annotators]]\nname = "{name}"\nruntime = "recording"\nmodel = "{directory / "recording"}"\n'
        for name in annotators
    ]
    path = directory / "panel.toml"
    path.write_text("\n".join(lines))
    return path, texts


@dataclass
class Installation:
    """What runs. `environment` is that of the parts; `url` the web backend's address."""

    settings: Settings
    environment: Mapping[str, str]
    family: Family
    store: Store
    connection: redis.Redis
    client: LabelStudioClient
    url: str

    def start_worker(self, name: str = "worker", command: Sequence[str] = ()) -> Child:
        """One more worker; `command` runs another script in its place."""
        program = parts.worker(self.environment)
        return self.family.start(Program(name, tuple(command) or program.command, program.environment))

    def end(self, child: Child) -> None:
        self.family.forget(child)
        child.process.wait(300)

    def make_project(self, texts: Sequence[str], part: int = 5000) -> tuple[int, list[int]]:
        """A project with these texts; returns its id and the ids of its tasks in the texts' order."""
        project = self.client.create_project("animals", CONFIG)
        rows = [{"text": text} for text in texts]
        ids = []
        for start in range(0, len(rows), part):
            ids += self.client.import_tasks(project, rows[start : start + part])
        return project, ids


@contextmanager
def installation(directory: Path, panel: Path, **more: str) -> Iterator[Installation]:
    """Start Label Studio, Valkey and the web backend; workers are started by whoever needs them.

    MOLLM_LABEL_STUDIO_DATA, a kept data directory, saves the minute in which a first start makes the database.
    """
    home = directory / "home"
    home.mkdir(parents=True)
    with label_studio(Path(os.environ.get("MOLLM_LABEL_STUDIO_DATA") or directory / "studio")) as running:
        environment = {
            "MOLLM_HOME": str(home), "MOLLM_PANEL": str(panel), "MOLLM_SWEEP_SECONDS": "2",
            "LABEL_STUDIO_URL": running.url, "LABEL_STUDIO_API_KEY": TOKEN, **more,
        }  # fmt: skip
        family = Family(home, lambda _line: None, grace=3.0)
        settings = reading.load(home).model_copy(update={"label_studio_url": running.url})
        with (
            family.until_stopped(),
            closing(Store(settings.store_url)) as store,
            closing(LabelStudioClient(running.url, TOKEN)) as client,
        ):
            valkey.start(family, home / "valkey", settings.queue_url)
            server = ports.listen("127.0.0.1", settings.port)
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
            with server, closing(queues.connect(settings.queue_url)) as connection:
                family.start(parts.web(server, environment))
                parts.wait_for_web(family, url)
                yield Installation(settings, environment, family, store, connection, client, url)


def script(module: str, *args: str) -> tuple[str, ...]:
    return (sys.executable, "-m", module, *args)


def again_if_busy(do: Callable[[], T]) -> T:
    """A write to Label Studio, again where its SQLite answers "database is locked" beside another writer."""
    for _ in range(59):
        with suppress(LabelStudioDown):
            return do()
        time.sleep(1)
    return do()


def until(met: Callable[[], bool], seconds: float, every: float = 0.2) -> float:
    """Wait for something; returns the seconds that it took. Raises TimeoutError."""
    started = time.monotonic()
    while not met():
        if time.monotonic() - started > seconds:
            raise TimeoutError(f"not within {seconds:.0f} s")
        time.sleep(every)
    return time.monotonic() - started


def resident_mb(pid: int) -> float:
    """Memory of a process and its children, MB."""
    process = psutil.Process(pid)
    return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)]) / 2**20


def load() -> str:
    return "load " + " ".join(f"{value:.1f}" for value in os.getloadavg())
