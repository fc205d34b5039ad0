"""The pages in a real browser: for everybody, whatever the project's state, whatever names people give."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from mollm_backend.store import events
from tests.e2e import axe
from tests.e2e.browser import chromium
from tests.e2e.pages import DATA, FAILED, HOSTILE, PASSWORD, USER, VIEWS, Pages, Site, _note, site
from tests.waiting import eventually

pytestmark = pytest.mark.browser

WIDE, NARROW = 1280, 390
STEADY = 0.01  # layout shift (CLS): ten times less than what counts as good
views = pytest.mark.parametrize("view", VIEWS)
themes = pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
widths = pytest.mark.parametrize("width", [WIDE, NARROW])


@pytest.fixture(scope="module")
def served() -> Iterator[Site]:
    home = Path(tempfile.mkdtemp(prefix="mollm-pages-"))  # short, for the socket's sake
    try:
        with site(home) as found:
            yield found
    finally:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def pages(served: Site) -> Iterator[Pages]:
    with chromium(served.settings.home / "chromium") as driver:
        yield Pages(driver, served)


@pytest.fixture(scope="module")
def axe_core() -> str:
    return axe.script()


@views
@widths
@themes
def test_nothing_keeps_people_from_using_it(pages: Pages, axe_core: str, view: str, width: int, dark: bool) -> None:
    pages.look(VIEWS[view], width=width, dark=dark)
    if pictures := os.environ.get("MOLLM_PICTURES"):
        pages.picture(Path(pictures) / f"{view}-{width}-{'dark' if dark else 'light'}.png")
    found = axe.violations(pages.driver, axe_core)
    pages.open_all()
    found += axe.violations(pages.driver, axe_core)
    assert not found, "\n".join(dict.fromkeys(found))


@views
@widths
def test_it_is_as_wide_as_the_screen(pages: Pages, view: str, width: int) -> None:
    pages.look(VIEWS[view], width=width)
    for _closed_then_open in range(2):
        wide = pages.run("return [document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth]")
        assert max(wide[:2]) <= wide[2], pages.run(
            "return [...document.querySelectorAll('body *')].filter(e => !e.closest('.scroll') && "
            "e.getBoundingClientRect().right > innerWidth + 1).map(e => e.outerHTML.slice(0, 150)).slice(0, 8)"
        )
        pages.open_all()


@views
def test_no_foreign_word_becomes_script_or_markup(pages: Pages, view: str) -> None:
    pages.look(VIEWS[view])
    pages.open_all()
    assert pages.run("return window.ran") is None
    assert pages.run("return window.broken") == []
    foreign = (
        "script:not([src^='/static/']), style, iframe, img, object, base, math, [onload], [onerror], [onfocus], [style]"
    )
    assert pages.run("return [...document.querySelectorAll(arguments[0])].map(e => e.outerHTML)", foreign) == []
    links = pages.run("return [...document.querySelectorAll('a')].map(a => a.href)")
    assert all(link.startswith(("http://", "https://")) for link in links)


def test_payloads_are_read_as_they_are_written(pages: Pages) -> None:
    pages.look(VIEWS["hostile"])
    pages.open_all()
    text = pages.run("return document.getElementById('main').textContent")
    for payload in (
        "<script>window.ran = 1</script>",
        "{{ 7 * 7 }}{% raise %}",
        "&lt;script&gt;window.ran=1&lt;/script&gt;",
    ):
        assert payload in text
    assert "49" not in pages.words("#summary .labels")


@views
def test_pictures_are_drawn_at_a_size_that_can_be_read(pages: Pages, view: str) -> None:
    pages.look(VIEWS[view], width=NARROW)
    small = pages.run(
        "return [...document.querySelectorAll('svg text')].map(e => [e.textContent, "
        "parseFloat(getComputedStyle(e).fontSize) * e.ownerSVGElement.getBoundingClientRect().width / 360])"
        ".filter(([, size]) => size < 11)"
    )
    assert small == []
    pictures = pages.run("return document.querySelectorAll('figure svg').length")
    assert pictures >= {"data": 5, "training": 5, "hostile": 5}.get(view, 0)


@widths
def test_nothing_moves_while_it_refreshes(pages: Pages, served: Site, width: int) -> None:
    for path in ("/", VIEWS["data"]):
        pages.look(path, width=width)
        pages.refresh()
        pages.run("window.shifted = []")
        events.add(served.store, "info", "something happened", DATA)
        pages.refresh()
        _note(served.connection, DATA, "training", 0, 0, "picking the next batch")
        pages.refresh()
        _note(served.connection, DATA, "training", 0, 0, "publishing the version")
        pages.refresh()
        served.connection.delete(f"mollm:running:{DATA}")
        pages.refresh()
        moved = pages.run("return window.shifted")
        assert sum(row["value"] for row in moved) < STEADY, (path, moved)


def test_what_is_open_and_focused_stays_so(pages: Pages, served: Site) -> None:
    pages.look(VIEWS["data"])
    pages.run(
        "const one = document.querySelector('#classes details'); one.open = true; one.querySelector('summary').focus()"
    )
    events.add(served.store, "info", "something else happened", DATA)
    pages.refresh()
    assert pages.run("return document.querySelector('#classes details').open")
    assert pages.run("return document.activeElement === document.querySelector('#classes details summary')")


@views
def test_all_is_reached_by_the_keyboard_and_seen(pages: Pages, view: str) -> None:
    pages.look(VIEWS[view])
    wanted = pages.run(
        "window.targets = [...document.querySelectorAll('a[href], summary, button, input, select, [tabindex=\"0\"]')]"
        ".filter(e => e.type !== 'hidden' && e.checkVisibility()); document.body.focus(); return targets.length"
    )
    assert wanted
    seen, unseen = set(), []
    body = pages.driver.find_element(By.TAG_NAME, "body")
    for _press in range(wanted + 5):
        pages.driver.switch_to.active_element.send_keys(Keys.TAB) if seen else body.send_keys(Keys.TAB)
        place, visible, html = pages.run(
            "const e = document.activeElement, s = getComputedStyle(e);"
            "return [targets.indexOf(e), (s.outlineStyle !== 'none' && parseFloat(s.outlineWidth) >= 2) || s.boxShadow "
            "!== 'none', e.outerHTML.slice(0, 120)]"
        )
        if place in seen or len(seen) == wanted:
            break
        if place >= 0:
            seen.add(place)
            if not visible:
                unseen.append(html)
    missed = [pages.run("return targets[arguments[0]].outerHTML.slice(0, 120)", k) for k in set(range(wanted)) - seen]
    assert not missed
    assert not unseen


def test_a_page_that_cannot_reach_the_backend_says_so(pages: Pages, served: Site) -> None:
    pages.look(VIEWS["data"])
    pages.driver.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    try:
        pages.driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
        pages.run("document.dispatchEvent(new Event('visibilitychange'))")
        assert eventually(lambda: "has not answered" in pages.words("body"), 30)
        assert pages.run("return window.shifted.reduce((sum, row) => sum + row.value, 0)") < STEADY
    finally:
        pages.driver.execute_cdp_cmd(
            "Network.emulateNetworkConditions",
            offline | {"offline": False, "downloadThroughput": -1, "uploadThroughput": -1},
        )
    pages.refresh()
    assert eventually(lambda: "has not answered" not in pages.words("body"), 30)


ON_SCREEN = """
const words = [], walk = document.createTreeWalker(document.getElementById('main'), NodeFilter.SHOW_TEXT);
while (walk.nextNode()) {
  const range = document.createRange();
  range.selectNodeContents(walk.currentNode);
  const box = range.getBoundingClientRect();
  if (box.height && box.top < innerHeight && box.bottom > 0) words.push(walk.currentNode.textContent);
}
return words.join(' ').replace(/\\s+/g, ' ');
"""


class Stranger:
    """Somebody who has never seen the page: they read what is on the screen and click on words."""

    def __init__(self, pages: Pages) -> None:
        self.pages, self.clicks = pages, 0
        pages.look(VIEWS["data"])

    def click(self, words: str, within: str = "#main") -> None:
        self.clicks += 1
        inside = self.pages.driver.find_element(By.CSS_SELECTOR, within)
        found = [
            one for one in inside.find_elements(By.CSS_SELECTOR, "a, button, summary") if one.text.strip() == words
        ]
        next(one for one in found if one.is_displayed()).click()

    def reads(self) -> str:
        """The words on the screen now, without scrolling."""
        return str(self.pages.run(ON_SCREEN))


@pytest.fixture
def stranger(pages: Pages) -> Iterator[Stranger]:
    found = Stranger(pages)
    yield found
    assert 0 < found.clicks <= 3


@pytest.fixture(scope="module")
def known(served: Site) -> dict[str, Any]:
    answer = httpx.get(f"{served.url}/projects/{DATA}.json", auth=(USER, PASSWORD), trust_env=False, timeout=60)
    found: dict[str, Any] = answer.raise_for_status().json()
    return found


def test_how_right_is_it(stranger: Stranger, known: dict[str, Any]) -> None:
    stranger.click("How right is it?")
    now = known["accuracy"]["now"]
    assert now["measured"]
    assert f"{now['value']:.1%}" in stranger.reads()
    assert f"{now['n']}" in stranger.reads()


def test_which_label_is_worst(stranger: Stranger, known: dict[str, Any]) -> None:
    stranger.click("Which label is worst?")
    worst = known["decisions"][0]["classes"][0]
    assert f"lowest F1 is {worst['label']}" in stranger.reads()
    assert f"{worst['f1']['value']:.2f}" in stranger.reads()


def test_who_disagrees(stranger: Stranger, known: dict[str, Any]) -> None:
    stranger.click("Who disagrees?")
    assert known["disagrees"]
    assert known["disagrees"][1:] in stranger.reads()


def test_why_this_task(stranger: Stranger, known: dict[str, Any]) -> None:
    stranger.click("Why this task?")
    first = next(row for row in known["batch"]["next"] if not row["blind"])
    assert first["text"][:40] in stranger.reads()
    assert first["reason"] in stranger.reads()
    assert f"{first['confidence']:.0%}" in stranger.reads()


def test_what_does_it_cost(stranger: Stranger, known: dict[str, Any]) -> None:
    stranger.click("What does it cost?")
    for who, cost in known["costs"].items():
        assert who in stranger.reads()
        assert f"{cost['prompt_tokens']:,}" in stranger.reads()


def test_how_long_still(stranger: Stranger, known: dict[str, Any]) -> None:
    stranger.click("How long still?")
    assert f"{known['open']:,}" in stranger.reads()
    assert known["finish"]["line"].split("`")[0] in stranger.reads()


def test_put_yesterdays_version_back(stranger: Stranger, served: Site, known: dict[str, Any]) -> None:
    stranger.click("Put an earlier version back")
    before = known["history"][1]
    row = stranger.pages.driver.find_element(By.XPATH, f"//section[@id='versions']//tr[th='{before['id']}']")
    stranger.clicks += 1
    row.find_element(By.TAG_NAME, "button").click()
    assert eventually(lambda: "Asked for" in stranger.pages.words("body"), 30)
    served.work()
    stranger.pages.refresh()
    assert f"pinned to {before['id']}" in stranger.pages.words()


def test_a_failed_job_is_tried_again_by_a_button(pages: Pages, served: Site) -> None:
    pages.look(VIEWS["failed"])
    assert "refused the token" in pages.words("#jobs")
    pages.driver.find_element(By.XPATH, "//button[normalize-space()='Try again']").click()
    assert eventually(lambda: "Asked for" in pages.words("body"), 30)
    served.work()
    pages.refresh()
    assert "Try again" not in pages.words("#jobs")
    assert any("another try" in row.line for row in events.newest(served.store, 20, project_id=FAILED))


def test_every_payload_is_planted(served: Site) -> None:
    page = httpx.get(f"{served.url}/projects/{HOSTILE}.json", auth=(USER, PASSWORD), trust_env=False, timeout=60)
    assert len(page.raise_for_status().json()["people"]["lines"]) == 50
