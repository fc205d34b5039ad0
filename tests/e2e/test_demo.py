"""`mollm up --demo`: a second start takes up where the first stopped; then the whole loop as a person sees it.

Real Label Studio, real LLMs, a real browser. One file, so that one process runs it and starts the demo once.
"""

from __future__ import annotations

import os
import stat
import time
from typing import Any

import httpx
import pytest

from mollm_backend.store import Store, batches, labels, projects, signals, tasks, versions
from mollm_backend.supervisor import label_studio
from mollm_backend.work import progress
from tests.e2e.conftest import LONG, Demo, wait_for

pytestmark = [pytest.mark.label_studio, pytest.mark.real_llm]
KEYS = {"label_studio_url", "token", "project", "backend_url", "dashboard_url"}
REFIT_EVERY = 10


def test_the_second_start_takes_seconds_and_asks_no_llm(demo: Demo) -> None:
    before = demo.facts
    assert set(before) == KEYS
    assert stat.S_IMODE(demo.told.stat().st_mode) == 0o600
    number = before["project"]
    store = Store(f"sqlite:///{demo.home / 'mollm.db'}", migrate=False)
    wait_for(lambda: projects.get(store, number).published_version, LONG, demo.log.read_text)
    wait_for(
        lambda: not any(progress.count(store, projects.get(store, number)).left.values()), LONG, demo.log.read_text
    )
    asked = {name: cost.calls for name, cost in signals.costs(store).items()}
    print(f"Ctrl-C took {demo.stop():.1f} s")
    print(f"the second start took {demo.start():.1f} s")
    assert demo.facts["project"] == number
    assert demo.facts["token"] == before["token"]
    time.sleep(15)  # what a worker would start by itself, it has started by now
    assert {name: cost.calls for name, cost in signals.costs(store).items()} == asked
    store.close()


def test_the_gold_is_nowhere_that_the_product_reads(demo: Demo) -> None:
    facts = demo.facts
    headers = {"Authorization": f"Token {facts['token']}"}
    url = f"{facts['label_studio_url']}/api/tasks?project={facts['project']}&page_size=100&fields=all"
    rows = httpx.get(url, headers=headers, timeout=60, trust_env=False).json()["tasks"]
    assert len(rows) == 60
    assert all(set(row["data"]) == {"text"} and not row.get("meta") for row in rows)


def order(store: Store, project: projects.Project) -> list[int]:
    """The batch's tasks in the order in which they are to be served."""
    entries = batches.entries(store, project.id, project.batch_version or "")
    return [entry.task_id for entry in sorted(entries, key=lambda entry: entry.rank)]


def is_published(store: Store, demo: Demo, *, after: str | None = None) -> projects.Project | None:
    """The project, once Label Studio's stream serves the batch of a version (another one than `after`)."""
    project = projects.get(store, demo.facts["project"])
    if project.published_version in (None, after) or project.batch_version is None:
        return None
    entries = batches.entries(store, project.id, project.batch_version)
    if not entries or not all(entry.published_at for entry in entries):
        return None
    return project if served_version(demo) == project.batch_version else None


def served_version(demo: Demo) -> str:
    facts = demo.facts
    url = f"{facts['label_studio_url']}/api/projects/{facts['project']}/"
    answer = httpx.get(url, headers={"Authorization": f"Token {facts['token']}"}, timeout=LONG, trust_env=False)
    return str(answer.raise_for_status().json()["model_version"])


@pytest.mark.browser
def test_a_person_labels_in_the_stream_and_the_mixture_learns(demo: Demo, browser: Any) -> None:
    from tests.e2e.page import LabelStudioPage

    number = demo.facts["project"]
    store = Store(f"sqlite:///{demo.home / 'mollm.db'}", migrate=False)
    page = LabelStudioPage(browser, demo.facts["label_studio_url"], number)

    def why() -> str:
        return "\n".join(demo.lines()[-20:])

    first = wait_for(lambda: is_published(store, demo), LONG, why)
    assert len(tasks.every(store, number)) == 60
    names = first.decision.labels.names
    predicted = versions.predicted(store, number, first.published_version or "")
    expected = order(store, first)

    who = label_studio.account(demo.home)
    page.log_in(who.user, who.password)
    page.open_task(expected[-1])
    assert page.checked() == [predicted[expected[-1]].label], "an opened task shows the mixture's pre-annotation"

    page.label_all_tasks()
    if picture := os.environ.get("MOLLM_PICTURE"):  # the README's
        assert page.checked()
        browser.set_window_size(1200, 560)
        browser.save_screenshot(picture)
        browser.set_window_size(1400, 1000)
    served: list[int] = []
    for at in range(REFIT_EVERY):
        task = page.current()
        served.append(task)
        assert page.checked() == [predicted[task].label], f"task {task} came without our pre-annotation"
        if at == 1:
            page.choose(next(name for name in names if name != predicted[task].label))
        page.submit()
    tenth = time.monotonic()
    assert served == expected[:REFIT_EVERY], "the stream serves the batch in its order"
    for _ in range(2):
        assert page.checked(), "while the refit runs, tasks are still pre-annotated"
        served.append(page.current())
        page.submit()

    second = wait_for(lambda: is_published(store, demo, after=first.published_version), LONG, why)
    print(f"new version and batch published {time.monotonic() - tenth:.0f} s after the tenth label (bar: 120)")
    newest = versions.find(store, number, second.published_version)
    assert newest is not None
    assert newest.human_labels >= REFIT_EVERY
    human = {row.task_id: row.label for row in labels.every(store, number)}
    assert human[served[0]] == predicted[served[0]].label
    assert human[served[1]] != predicted[served[1]].label

    served.append(page.current())  # the stream had given this one out before the new batch was there
    page.submit()
    upcoming = [task for task in order(store, second) if task not in served]
    shown = []
    for _ in range(3):
        assert page.checked()
        shown.append(page.current())
        page.submit()
    assert shown == upcoming[:3], "the stream serves the new batch in its order"
    store.close()
