"""A second `mollm up --demo` takes up where the first stopped."""

from __future__ import annotations

import stat
import time

import httpx
import pytest

from mollm_backend.store import Store, projects, signals
from mollm_backend.work import progress
from tests.e2e.conftest import LONG, Demo, wait_for

pytestmark = [pytest.mark.label_studio, pytest.mark.real_llm]
KEYS = {"label_studio_url", "token", "project", "backend_url", "dashboard_url"}


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
