"""What a test of many workers needs: a recording, a project that reads it, and real workers that note what they ask."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from mollm import recording
from mollm.annotators import fingerprint
from mollm.config import PanelConfig
from mollm.records import Item, LabelSet, Signals, digest
from mollm_backend.store import Store, projects, signals, tasks
from mollm_backend.store.decisions import Decision, Source
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.tasks import Task

LABELS = LabelSet(("cat", "dog"))
ASKED = (Decision("label", (Source("text", "text"),), LABELS),)
PANEL = '[[annotators]]\nname = "{name}"\nruntime = "recording"\nmodel = "{directory}"\n'
NOWHERE = "http://127.0.0.1:9"


class Reading:
    """One project whose texts several workers read. `asked`: the digest of each text that was asked for, in order."""

    def __init__(self, home: Path, database_url: str, redis_url: str, texts: int, names: tuple[str, ...] = ("one",)):
        self.home, self.names, self.texts = home, names, texts
        self.store = Store(database_url)
        self.environment = os.environ | {
            "MOLLM_HOME": str(home), "REDIS_URL": redis_url, "DATABASE_URL": database_url,
            "MOLLM_PANEL": str(home / "panel.toml"), "MOLLM_SWEEP_SECONDS": "1", "LABEL_STUDIO_URL": NOWHERE,
        }  # fmt: skip
        said = [f"the animal number {n} says {'meow' if n % 2 else 'woof'}" for n in range(texts)]
        self._record(said)
        panel = PanelConfig.load(home / "panel.toml")
        self.members = tuple(
            PanelMember(one.name, fingerprint(one, LABELS, panel.instruction, ())) for one in panel.annotators
        )
        far = "2999-01-01T00:00:00+00:00"  # there is no Label Studio: nothing is to be reconciled
        projects.save(self.store, Project(7, NOWHERE, "animals", "", "<View/>", ASKED, self.members, reconciled_at=far))
        self.said = said

    def add_tasks(self) -> None:
        """Now there is something to read."""
        tasks.upsert(self.store, 7, [Task(n + 1, str(n), text) for n, text in enumerate(self.said)])

    def _record(self, said: list[str]) -> None:
        N, M = len(said), len(self.names)
        probs = np.where(np.arange(N)[:, None, None] % 2 == 0, [0.1, 0.9], [0.9, 0.1]).repeat(M, axis=1)
        panel = Signals(tuple(map(str, range(N))), self.names, LABELS.names, probs, np.round(probs, 1))
        items = tuple(Item(str(n), text) for n, text in enumerate(said))
        directory = self.home / "recording"
        recording.save(directory, recording.Recording("animals", LABELS, items, panel, np.full(N, -1), 10, 0.7, 0.9))
        written = "".join(PANEL.format(name=name, directory=directory) for name in self.names)
        (self.home / "panel.toml").write_text(written)

    @contextmanager
    def workers(
        self, count: int, *, seconds_a_text: float, host: str = "", arguments: tuple[str, ...] = (),
        before: tuple[str, ...] = (), **settings: str,
    ) -> Iterator[list[subprocess.Popen[bytes]]]:  # fmt: skip
        """So many real workers (on a host of that name, if given), ended at the end. `before`: a program that runs
        them."""
        command = [
            *before,
            sys.executable,
            "-m",
            "tests.workers.noting_worker",
            str(self.home),
            str(seconds_a_text),
            host,
        ]
        with (self.home / "worker.log").open("ab") as log:
            started = [
                subprocess.Popen(
                    [*command, *arguments],
                    env=self.environment | settings,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                for _ in range(count)
            ]
        try:
            yield started
        finally:
            for process in started:
                with suppress(ProcessLookupError):  # its group, since a program that runs a worker passes no signal on
                    os.killpg(process.pid, signal.SIGTERM)
            for process in started:
                try:
                    process.wait(15)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()

    def asked(self, pid: int | str = "*") -> list[str]:
        """The digest of each text that was asked for (by one worker), with its annotator."""
        return [line for file in self.home.glob(f"asked-{pid}") for line in file.read_text().split("\n") if line]

    def digests(self, name: str) -> set[str]:
        """What `asked` holds once this annotator was asked for all."""
        return {f"{name} {digest(text)}" for text in self.said}

    def left(self) -> int:
        return sum(signals.unanswered(self.store, 7, member.fingerprint) for member in self.members)

    def log(self) -> str:
        return (self.home / "worker.log").read_text()[-3000:]


def eventually(met: Callable[[], bool], seconds: float, say: Callable[[], str] = str) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, f"not within {seconds} s\n{say()}"
        time.sleep(0.05)
