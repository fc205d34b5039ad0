"""The labelling page itself, in a browser: it shows what we publish in each control, and what it sends is read back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mollm.records import Provenance
from mollm_backend.labelstudio.label_config import labels_of
from tests.backend.conftest import connection, queue_url  # noqa: F401 - fixtures
from tests.e2e.browser import chromium
from tests.labelstudio.test_ls_controls_real import CONFIGS, DATA, PLAIN, Open, Site, open_site, plain  # noqa: F401
from tests.real_label_studio import RealLabelStudio

pytestmark = [pytest.mark.label_studio, pytest.mark.browser]


@pytest.fixture
def driver(tmp_path: Path) -> Iterator[Any]:
    with chromium(tmp_path / "chromium") as driver:
        yield driver


def stream(site: Site, driver: Any, studio: RealLabelStudio) -> Any:
    from tests.e2e.page import LabelStudioPage

    page = LabelStudioPage(driver, studio.url, site.number)
    page.log_in(studio.user, studio.password)
    page.label_all_tasks()
    return page


def sent(site: Site, task: int) -> dict[str, Any]:
    """The one annotation of a task, as the page sent it."""
    (found,) = site.client._raw("read", "GET", f"api/tasks/{task}/annotations/")
    return dict(found)


def test_what_is_published_in_four_controls_is_what_the_page_submits(
    open_site: Open, driver: Any, studio: RealLabelStudio  # noqa: F811
) -> None:  # fmt: skip
    site = open_site(CONFIGS["all on one text"], PLAIN)
    site.work()
    page = stream(site, driver, studio)
    for _ in range(2):
        task = page.current()
        said = site.said(task)
        assert "tone" in said
        wanted = [said["tone"]] + [name.split("/")[1] for name, label in said.items() if label == "applies"]
        page._until(lambda _, wanted=wanted: len(page.checked()) == len(wanted))
        page.submit()
        found = sent(site, task)
        by_key = {decision.key: said[decision.name] for decision in site.project.decisions}
        assert {key: label for key, (label, _) in labels_of(found["result"], site.project.decisions).items()} == by_key
        site.work()
        rows = site.annotations(found["id"])
        assert {name: row.label for name, row in rows.items()} == said
        assert {row.provenance for row in rows.values()} == {Provenance.ACCEPTED}


def test_a_pairs_side_is_shown_and_the_other_one_can_be_picked(
    open_site: Open, driver: Any, studio: RealLabelStudio  # noqa: F811
) -> None:  # fmt: skip
    from selenium.webdriver.common.by import By

    site = open_site(CONFIGS["pairwise"], DATA["pairwise"])
    site.work()
    page = stream(site, driver, studio)
    task = page.current()
    page.submit()
    found = sent(site, task)
    assert plain(found["result"]) == {"best": {"selected": site.said(task)["best"]}}
    site.work()
    assert site.annotations(found["id"])["best"].provenance is Provenance.ACCEPTED

    task = page.current()
    data = site.client._raw("task", "GET", f"api/tasks/{task}/")["data"]
    other = {"left": "right", "right": "left"}[site.said(task)["best"]]
    text = data["one" if other == "left" else "two"]
    page.click(By.XPATH, f"//*[normalize-space(text())='{text}']")
    page.submit()
    found = sent(site, task)
    assert plain(found["result"]) == {"best": {"selected": other}}
    site.work()
    assert site.annotations(found["id"])["best"].label == other
    assert site.annotations(found["id"])["best"].provenance is Provenance.EDITED
