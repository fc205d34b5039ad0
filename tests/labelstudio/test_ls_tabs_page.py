"""Label Studio's own page, in a browser: our tabs open, and the labelling screen says why a task came.

Without this, a filter that only the API knows would keep the page of a project from opening at all.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mollm_backend.labelstudio import show_why, tab_shapes, tabs
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.connect import connect
from mollm_backend.settings import Settings
from mollm_backend.store import Store, projects
from tests.e2e.browser import chromium
from tests.real_label_studio import RealLabelStudio

from .conftest import Recorder
from .test_ls_tabs_real import connected, put  # noqa: F401 - a fixture

pytestmark = [pytest.mark.label_studio, pytest.mark.browser]
Connected = tuple[int, list[int]]


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Any]:
    with chromium(tmp_path / "chromium") as driver:
        yield driver


def test_the_tabs_open_and_the_screen_says_why(
    store: Store, client: LabelStudioClient, settings: Settings, recorder: Recorder, studio: RealLabelStudio,
    connected: Connected, driver: Any,  # noqa: F811
) -> None:  # fmt: skip
    from selenium.webdriver.common.by import By

    from tests.e2e.page import LabelStudioPage

    number, ids = connected
    connect(store, client, settings, number, recorder.url, check_order=False, why=True)
    put(store, client, number, "v+batch-1", [ids[2], ids[1]])
    page = LabelStudioPage(driver, studio.url, number)
    page.log_in(studio.user, studio.password)

    def says(words: str) -> None:
        page._until(lambda _: words in driver.find_element(By.TAG_NAME, "body").text)

    told = {tab_shapes.NEXT: "why: 90 % sure: Red; chosen: margin", tab_shapes.DOUBTFUL: "why: 80 % sure: Red",
            tab_shapes.ACCEPTED: "Tasks: 0 / 8", tab_shapes.QUEUED: "text number 7"}  # fmt: skip
    views = {view["data"]["title"]: view["id"] for view in client.views(number)}
    for title, words in told.items():
        driver.get(f"{studio.url}/projects/{number}/data?tab={views[title]}")
        says(words)
    before = projects.get(store, number).connection["tabs"]
    tabs.keep(store, client, number, make=True)
    assert projects.get(store, number).connection["tabs"] == before  # looking at them changes nothing

    page.label_all_tasks()
    assert page.current() == ids[2]
    says("90 % sure: Red; chosen: margin")
    page.submit()
    says("80 % sure: Red; chosen: margin")
    (given,) = client._raw("read", "GET", f"api/tasks/{ids[2]}/annotations/")
    assert [part["from_name"] for part in given["result"]] == ["label"]
    assert "why" not in str(given["result"])
    assert show_why.CONTROL not in str(given["result"])
