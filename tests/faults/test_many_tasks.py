"""100,000 tasks end to end: read through the recording runtime, trained on, all pre-annotated in a real Label Studio.

Everything once and none twice, in flat memory: the worker that takes them in and reads them peaks within 150 MB of its
peak at 1,000 tasks. A training holds all signals at once and is linear by nature: its memory is printed. The web
process is asked at the full size. Sizes: MOLLM_MANY_TASKS, separated by commas (1000,100000).
"""

from __future__ import annotations

import os
import resource
import time
from pathlib import Path

import httpx
import numpy as np
import pytest

from mollm_backend.labelstudio.connect import connect
from mollm_backend.labelstudio.publish import prelabel
from mollm_backend.store import Store, batches, projects, tasks, versions
from mollm_backend.supervisor.processes import Child
from mollm_backend.work import progress

from ..real_label_studio import executable
from .installation import Installation, installation, load, script, until, write_panel

SIZES = [int(size) for size in os.environ.get("MOLLM_MANY_TASKS", "1000,100000").split(",")]
FLAT_MB, ANSWER_MS = 150.0, 100.0
LONG = 7200.0  # seconds; bounds a hang


def peak_mb(worker: Child) -> float:
    """The largest resident size that the process has had, MB."""
    status = Path(f"/proc/{worker.process.pid}/status").read_text()
    return next(int(line.split()[1]) / 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def read_all(there: Installation, project: int, count: int) -> float:
    """A worker that only reads takes all in; returns its peak in MB."""
    worker = there.start_worker("reader", script("tests.faults.reading_worker"))
    until(lambda: tasks.count(there.store, project)[0] == count, LONG, every=1.0)
    until(lambda: bool(projects.get(there.store, project).panel), LONG, every=1.0)
    wanted = count * len(projects.get(there.store, project).panel)
    until(lambda: progress.count(there.store, projects.get(there.store, project)).answered == wanted, LONG, every=2.0)
    found = peak_mb(worker)
    there.end(worker)
    return found


def train_all(there: Installation, project: int, count: int) -> float:
    """An ordinary worker trains the first version on all of it; returns its peak in MB."""
    worker = there.start_worker("trainer")
    until(lambda: (versions.newest(there.store, project) or _NONE).facts.get("pool") == count, LONG, every=1.0)
    until(lambda: bool(batch(there.store, project)), LONG, every=1.0)
    until(lambda: all(row.published_at for row in batch(there.store, project)), LONG, every=1.0)
    found = peak_mb(worker)
    there.end(worker)
    return found


def batch(store: Store, project: int) -> list[batches.StoredEntry]:
    return batches.entries(store, project, projects.get(store, project).batch_version or "")


def asked_ms(there: Installation, project: int, ids: list[int], texts: list[str]) -> dict[str, float]:
    """Median of ten answers of the web process, ms."""
    user = (there.settings.basic_auth_user, there.settings.basic_auth_password.get_secret_value())
    rng, found = np.random.default_rng(3), dict[str, list[float]]()
    with httpx.Client(base_url=there.url, auth=user, timeout=60, trust_env=False) as client:
        for _ in range(10):
            n = int(rng.integers(len(ids)))
            opened = {"tasks": [{"id": ids[n], "data": {"text": texts[n]}}], "project": f"{project}.1"}
            for method, path, body in (("POST", "/predict", opened), ("GET", "/", None), ("GET", "/status.json", None)):
                started = time.perf_counter()
                answer = client.request(method, path, json=body)
                found.setdefault(path, []).append(1000 * (time.perf_counter() - started))
                assert answer.status_code == 200
                assert path != "/predict" or answer.json()["results"][0]["result"], "a task without pre-annotation"
    return {path: float(np.median(times)) for path, times in found.items()}


def held(there: Installation, project: int, version: str) -> list[int]:
    """The tasks of the version's predictions as Label Studio lists them, one entry a prediction."""
    listed = there.client._raw("list", "GET", "api/predictions/", params={"project": project}, seconds=1800)
    return [row["task"] for row in listed if row["model_version"] == version]


@pytest.mark.faults
@pytest.mark.label_studio
@pytest.mark.timeout(6 * 3600)
def test_many_tasks_are_all_pre_annotated_once_in_flat_memory(tmp_path: Path) -> None:
    if not executable().exists():
        pytest.skip(f"no Label Studio at {executable()}: set MOLLM_LABEL_STUDIO to its executable")
    peaks = []
    for count in SIZES:
        directory = tmp_path / str(count)
        directory.mkdir()
        panel, texts = write_panel(directory, count)
        with installation(directory, panel, MOLLM_CHUNK_TEXTS="256") as there:
            peaks.append(run(there, count, texts))
    print(
        f"reading: peaks of the worker {', '.join(f'{peak:.0f}' for peak in peaks)} MB at {SIZES} tasks "
        f"(bar: {FLAT_MB:.0f} apart)"
    )
    assert max(peaks) - peaks[0] < FLAT_MB


def run(there: Installation, count: int, texts: list[str]) -> float:
    """All of it at one size; prints what it took and returns the reading worker's peak."""
    clock = [time.monotonic()]

    def took() -> float:
        clock.append(time.monotonic())
        return clock[-1] - clock[-2]

    project, ids = there.make_project(texts)
    imported = took()
    connect(there.store, there.client, there.settings, project, there.url, check_order=False)
    connected = took()
    peak = read_all(there, project, count)
    read = took()
    training = train_all(there, project, count)
    trained = took()
    answers = asked_ms(there, project, ids, texts)
    took()
    version = projects.get(there.store, project).published_version or ""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    report = prelabel(there.store, there.client, project, version)
    written = took()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024 - before
    again = prelabel(there.store, there.client, project, version)
    print(
        f"{count} tasks: Label Studio took the texts in {imported:.0f} s; connected and taken in {connected:.0f} s; "
        f"read by two annotators {read:.0f} s, peak {peak:.0f} MB; trained and published {trained:.0f} s, peak "
        f"{training:.0f} MB; prelabel {written:.0f} s (+{grown:.0f} MB); "
        + ", ".join(f"{path} {ms:.1f} ms" for path, ms in answers.items()) + f"; {load()}"
    )  # fmt: skip
    there_now = held(there, project, version)
    assert report.created == count
    assert (again.created, len(there_now), len(set(there_now))) == (0, count, count)
    assert answers["/predict"] < ANSWER_MS
    return peak


_NONE = versions.Version("", 0, "", 0)
