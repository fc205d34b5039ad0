"""Hours of mixed work on the embedded default: nothing grows that need not grow.

One worker, a recorded panel, the real encoder where it is installed, the real Label Studio. People label, change and
take back labels, edit texts, import tasks, open tasks and look at the pages. Each half minute the memory, the open
files and the threads of the web process and of the worker are noted, and what the queue holds. Between the second
quarter of the run and the last one each may grow by a tenth (and by the few MB and files that it moves by at rest):
memory at its least, which is between two trainings, since what a training holds grows with the project by nature; all
others by their median. Length: MOLLM_SOAK_SECONDS (7200).
"""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from mollm_backend.labelstudio.connect import connect
from mollm_backend.settings import Settings
from mollm_backend.store import labels, projects, tasks, versions
from mollm_backend.supervisor import parts
from mollm_backend.work import progress

from ..real_label_studio import executable
from .installation import (
    LABELS,
    Installation,
    again_if_busy,
    all_predicted,
    installation,
    load,
    result,
    until,
    write_panel,
)

SECONDS = float(os.environ.get("MOLLM_SOAK_SECONDS", "7200"))
AT_FIRST, IMPORTED, PAUSE, NOTED_EVERY = 1000, 10, 1.5, 30.0
GROWTH = 1.10
SLACK = {"MB": 20.0, "files": 5.0, "threads": 3.0, "keys": 20.0, "jobs": 5.0}
"""By how much more than `GROWTH` a figure may differ: what an idle part moves by from one minute to the next."""
ACTS = {
    "label": 0.45,
    "open": 0.15,
    "page": 0.12,
    "change": 0.1,
    "text": 0.08,
    "import": 0.06,
    "delete": 0.03,
    "gone": 0.01,
}


class Day:
    """What people do, one act after another."""

    def __init__(self, there: Installation, project: int, ids: Sequence[int], texts: Sequence[str]) -> None:
        self.there, self.project = there, project
        self.rng = np.random.default_rng(3)
        self.free, self.all, self.fresh = list(ids), list(ids), iter(texts)
        self.labelled: list[int] = []
        self.done: Counter[str] = Counter()
        settings = there.settings
        user = (settings.basic_auth_user, settings.basic_auth_password.get_secret_value())
        self.web = httpx.Client(base_url=there.url, auth=user, timeout=60, trust_env=False)

    def act(self) -> None:
        name = str(self.rng.choice(list(ACTS), p=list(ACTS.values())))
        getattr(self, f"_{name}")()
        self.done[name] += 1

    def _label(self) -> None:
        task = self.free.pop(int(self.rng.integers(len(self.free))))
        label = LABELS.names[int(self.rng.integers(3))]
        self.labelled.append(again_if_busy(lambda: self.there.client.submit(task, result(label), lead_time=1.0)))

    def _change(self) -> None:
        if self.labelled:
            path = f"api/annotations/{self.labelled[int(self.rng.integers(len(self.labelled)))]}/"
            body = {"result": result(LABELS.names[int(self.rng.integers(3))])}
            again_if_busy(lambda: self.there.client._raw("change", "PATCH", path, body=body))

    def _delete(self) -> None:
        if self.labelled:
            path = f"api/annotations/{self.labelled.pop(int(self.rng.integers(len(self.labelled))))}/"
            again_if_busy(lambda: self.there.client._gone("delete", path))

    def _text(self) -> None:
        path, text = f"api/tasks/{self.free[int(self.rng.integers(len(self.free)))]}/", next(self.fresh)
        again_if_busy(lambda: self.there.client._raw("text", "PATCH", path, body={"data": {"text": text}}))

    def _gone(self) -> None:
        path = f"api/tasks/{self.free.pop(int(self.rng.integers(len(self.free))))}/"
        again_if_busy(lambda: self.there.client._gone("gone", path))

    def _import(self) -> None:
        rows = [{"text": next(self.fresh)} for _ in range(IMPORTED)]
        ids = again_if_busy(lambda: self.there.client.import_tasks(self.project, rows))
        self.free += ids
        self.all += ids

    def _open(self) -> None:
        task = self.free[int(self.rng.integers(len(self.free)))]
        body = {"tasks": [{"id": task, "data": {"text": "as it is"}}], "project": f"{self.project}.1", "params": {}}
        assert self.web.post("/predict", json=body).status_code == 200

    def _page(self) -> None:
        for path in ("/", f"/projects/{self.project}", "/status.json", "/metrics"):
            assert self.web.get(path).status_code == 200, path


def figures(there: Installation, processes: dict[str, psutil.Process]) -> dict[str, float]:
    """What may not grow, by name; the last word of a name is its unit."""
    found = dict[str, float]()
    for name, process in processes.items():
        family = [process, *process.children(recursive=True)]
        found[f"{name} MB"] = sum(each.memory_info().rss for each in family) / 2**20
        found[f"{name} files"] = float(sum(each.num_fds() for each in family))
        found[f"{name} threads"] = float(sum(each.num_threads() for each in family))
    found["queue MB"] = there.connection.info("memory")["used_memory"] / 2**20
    found["queue keys"] = float(there.connection.dbsize())
    waiting = sum(there.connection.llen(key) for key in there.connection.scan_iter("rq:queue:*"))
    found["waiting jobs"] = float(waiting)
    return found


def noted(there: Installation, processes: dict[str, psutil.Process]) -> dict[str, float]:
    while True:
        try:
            return figures(there, processes)
        except psutil.NoSuchProcess:  # a work horse that has just ended
            for process in processes.values():
                assert process.is_running(), "a part has ended"


def quarters(rows: Sequence[dict[str, float]]) -> dict[str, tuple[float, ...]]:
    """Least and median of the second quarter, of the last one, and the largest of all, of each figure."""
    part = len(rows) // 4
    found = dict[str, tuple[float, ...]]()
    for name in rows[0]:
        early, late = ([row[name] for row in some] for some in (rows[part : 2 * part], rows[-part:]))
        found[name] = (
            min(early),
            float(np.median(early)),
            min(late),
            float(np.median(late)),
            max(row[name] for row in rows),
        )
    return found


def grown(name: str, row: tuple[float, ...]) -> bool:
    """Whether a figure of `quarters` is larger at the end than it may be."""
    unit = name.rsplit(" ", 1)[1]
    early, late = (row[0], row[2]) if unit == "MB" else (row[1], row[3])
    return late > GROWTH * early + SLACK[unit]


@pytest.mark.faults
@pytest.mark.label_studio
@pytest.mark.timeout(4 * 3600)
def test_nothing_grows_in_hours_of_mixed_work(tmp_path: Path) -> None:
    if not executable().exists():
        pytest.skip(f"no Label Studio at {executable()}: set MOLLM_LABEL_STUDIO to its executable")
    panel, texts = write_panel(tmp_path, AT_FIRST + int(SECONDS) + 1000)
    encoder = Settings(home=Path.home() / ".mollm").encoder_dir
    more = {"MOLLM_ENCODER": str(encoder)} if encoder.is_dir() else {}
    with installation(tmp_path, panel, MOLLM_SWEEP_SECONDS="30", **more) as there:
        project, ids = there.make_project(texts[:AT_FIRST])
        connect(there.store, there.client, there.settings, project, there.url, check_order=False)
        worker = there.start_worker()
        until(lambda: all_predicted(there.store, project), 1800)
        processes = {
            "web": psutil.Process(there.family.children[parts.WEB].process.pid),
            "worker": psutil.Process(worker.process.pid),
        }
        day, rows, began = Day(there, project, ids, texts[AT_FIRST:]), list[dict[str, float]](), time.monotonic()
        while time.monotonic() < began + SECONDS:
            day.act()
            time.sleep(PAUSE)
            if time.monotonic() > began + len(rows) * NOTED_EVERY:
                rows.append(noted(there, processes))
        until(lambda: not any(progress.count(there.store, projects.get(there.store, project)).left.values()), 600)
        expected = {row["id"] for _task, found in there.client.annotations(project, day.all) for row in found}
        until(lambda: {row.annotation_id for row in labels.every(there.store, project)} == expected, 600)
        until(lambda: all_predicted(there.store, project), 600)
        trained, size = len(versions.every(there.store, project)), tasks.count(there.store, project)[0]
        attention = projects.get(there.store, project).attention
        day.web.close()
    found = quarters(rows)
    print(
        f"{SECONDS / 3600:.2f} h of mixed work: {dict(day.done)}, {trained} versions, {size} tasks and {len(expected)} "
        f"labels at the end, with{'' if more else 'out'} the encoder; {len(rows)} looks; {load()}"
    )
    print("least and median of the second quarter, of the last, largest of all:")
    for name, row in found.items():
        print(f"  {name:15s}" + "".join(f" {value:8.1f}" for value in row))
    assert attention == ""
    assert not {name: row for name, row in found.items() if grown(name, row)}
