"""SIGKILL at random moments of a long annotation: nothing missing, nothing doubled, at most one chunk asked again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mollm import recording
from mollm.records import Item, LabelSet, Signals, digest
from mollm_backend.store import Store, projects, signals, tasks
from mollm_backend.store.decisions import Decision, Source
from mollm_backend.store.projects import Project
from mollm_backend.store.tasks import Task
from mollm_backend.work import progress, queues

from ..backend.conftest import CONFIG, queue_url

__all__ = ["queue_url"]
TEXTS, KILLS, CHUNK = 5000, 5, 16
LABELS = LabelSet(("cat", "dog"))
PANEL = """
[[annotators]]
name = "recorded"
runtime = "recording"
model = "{directory}"
"""


def make_recording(directory: Path) -> list[str]:
    texts = [f"the animal number {n} says {'meow' if n % 2 else 'woof'}" for n in range(TEXTS)]
    probs = np.where(np.arange(TEXTS)[:, None, None] % 2 == 0, [0.1, 0.9], [0.9, 0.1])
    panel = Signals(tuple(map(str, range(TEXTS))), ("recorded",), LABELS.names, probs, np.round(probs, 1))
    items = tuple(Item(str(n), text) for n, text in enumerate(texts))
    gold = np.full(TEXTS, -1)
    recording.save(directory, recording.Recording("animals", LABELS, items, panel, gold, 10, 0.7, 0.9))
    return texts


def eventually(met: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not met():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.05)


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_nothing_is_missing_doubled_or_asked_again(tmp_path: Path, queue_url: str) -> None:
    texts = make_recording(tmp_path / "recording")
    (tmp_path / "panel.toml").write_text(PANEL.format(directory=tmp_path / "recording"))
    environment = os.environ | {
        "MOLLM_HOME": str(tmp_path), "REDIS_URL": queue_url, "MOLLM_PANEL": str(tmp_path / "panel.toml"),
        "MOLLM_CHUNK_TEXTS": str(CHUNK), "MOLLM_SWEEP_SECONDS": "1", "LABEL_STUDIO_URL": "http://127.0.0.1:9",
    }  # fmt: skip
    store = Store(f"sqlite:///{tmp_path / 'mollm.db'}")
    asked = (Decision("label", (Source("text", "text"),), LABELS),)
    projects.save(store, Project(7, "http://127.0.0.1:9", "animals", "", CONFIG, asked))
    tasks.upsert(store, 7, [Task(n + 1, str(n), text) for n, text in enumerate(texts)])
    _set_panel(tmp_path, store)
    queues.connect(queue_url).flushall()
    asked = tmp_path / "asked"
    rng = np.random.default_rng(0)

    def start() -> subprocess.Popen[bytes]:
        with (tmp_path / "worker.log").open("ab") as log:
            command = [sys.executable, "-m", "tests.faults.slow_worker", str(asked), "0.05"]
            return subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def answered() -> int:
        return progress.count(store, projects.get(store, 7)).answered

    for _ in range(KILLS):
        before = answered()
        process = start()
        eventually(lambda before=before: answered() > before, 600)  # type: ignore[misc]
        time.sleep(float(rng.uniform(0, 2)))
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert answered() < TEXTS, "the kills came too late: nothing was tested"
    process = start()
    try:
        eventually(lambda: answered() == TEXTS, 800)
    finally:
        process.terminate()
        process.wait()
    lines = asked.read_text().split()
    print(
        f"{KILLS} kills, {TEXTS} texts: asked {len(lines)} times, {len(lines) - len(set(lines))} of them again "
        f"(bar: {KILLS * CHUNK}, a chunk a kill), none missing, none stored twice"
    )
    assert set(lines) == {digest(text) for text in texts}
    assert len(lines) - TEXTS <= KILLS * CHUNK
    with store.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM signals").scalar_one() == TEXTS
    cost = signals.costs(store)["recorded"]
    assert cost.texts == TEXTS


def _set_panel(home: Path, store: Store) -> None:
    """What a reconciliation does; there is no Label Studio here."""
    from mollm.annotators import fingerprint
    from mollm.config import PanelConfig
    from mollm_backend.store.projects import PanelMember

    panel = PanelConfig.load(home / "panel.toml")
    prints = [PanelMember(c.name, fingerprint(c, LABELS, panel.instruction, ())) for c in panel.annotators]
    projects.set_panel(store, 7, tuple(prints))
