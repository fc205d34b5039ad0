"""The script of the pages, in a real browser: what is new appears in place, and nothing of the person's is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from flask import Flask, request
from werkzeug.serving import make_server

from mollm_backend.jobs.runtime import Runtime
from mollm_backend.store import Store
from mollm_backend.view import template
from mollm_backend.work import queues
from tests.e2e.browser import chromium
from tests.waiting import eventually

from .conftest import queued

pytestmark = pytest.mark.browser

PAGE = """{% extends "base.html" %}{% block main %}
<h1>{{ state.line }}</h1>
{% if state.alarm %}<p id="alarm" class="notice problem">{{ state.alarm }}</p>{% endif %}
<details id="more"><summary>more</summary><p id="inner">{{ state.line }}</p></details>
<form><input type="hidden" id="hidden" value="{{ state.line }}"><input id="half" name="labels" value="100">
<select id="choice"><option>a</option><option>b</option></select><button id="button" type="button">x</button></form>
<div id="box" class="scroll"><table><tbody>
{% for row in state.rows %}<tr id="row-{{ row }}"><td>{{ row }}</td></tr>{% endfor %}
</tbody></table></div><p id="far">end</p>
<svg id="picture" viewBox="0 0 9 9"><circle id="dot" cx="{{ state.rows | length }}" cy="1" r="1"/></svg>
{% endblock %}"""
# Time runs fifty times as fast for the page, and what shifts or breaks the policy is written down.
FASTER = """
const slow = window.setTimeout; window.setTimeout = (what, ms) => slow(what, ms / 50);
window.wrong = []; window.shifts = [];
document.addEventListener("securitypolicyviolation", (event) => window.wrong.push(event.violatedDirective));
new PerformanceObserver((list) => list.getEntries().forEach((e) => window.shifts.push(e.value)))
  .observe({ type: "layout-shift", buffered: true });
"""


class Page:
    """The page that a browser has open, and what the server says next time."""

    def __init__(self, driver: Any, state: dict[str, Any], asked: list[str]) -> None:
        self.driver, self.state, self.asked = driver, state, asked

    def js(self, code: str) -> Any:
        return self.driver.execute_script(f"return {code}")

    def shows(self, code: str) -> bool:
        return eventually(lambda: bool(self.js(code)), 20)


@contextmanager
def served(app: Flask, port: int = 0) -> Iterator[int]:
    server = make_server("127.0.0.1", port, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(scope="module")
def driver(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile")) as opened:
        opened.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": FASTER})
        yield opened


@pytest.fixture
def asked() -> list[str]:
    return []


@pytest.fixture
def state(app: Flask, asked: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {"line": "first", "alarm": "", "rows": list(range(60))}
    shape = template.environment().from_string(PAGE)

    @app.get("/try")
    def page() -> str:
        asked.append("try")
        return shape.render(state=found)

    return found


@pytest.fixture
def page(app: Flask, state: dict[str, Any], asked: list[str], driver: Any) -> Iterator[Page]:
    with served(app) as port:
        driver.get(f"http://mollm:pass@127.0.0.1:{port}/try")
        yield Page(driver, state, asked)
        assert driver.execute_script("return window.wrong") == [], "the policy forbids something of ours"
        driver.get("about:blank")


def test_what_is_new_appears_and_what_is_the_persons_stays(page: Page) -> None:
    page.driver.set_window_size(1000, 400)
    page.js("document.getElementById('more').open = true, document.getElementById('half').select(), 1")
    page.driver.switch_to.active_element.send_keys("12")
    page.js("document.getElementById('choice').selectedIndex = 1, window.scrollTo(0, 900), 1")
    page.js("document.getElementById('far').firstChild.marked = window.marked = 1")
    page.js("getSelection().selectAllChildren(document.getElementById('far')), 1")
    page.driver.execute_async_script("requestAnimationFrame(() => requestAnimationFrame(arguments[0]))")
    page.js("window.shifts.length = 0")  # what this test itself has moved
    before = page.js("window.scrollY")
    assert before > 300
    page.state |= {"line": "second <b>", "rows": [60, *range(1, 60)]}
    assert page.shows("document.querySelector('h1').textContent == 'second <b>'")
    assert page.js("document.getElementById('inner').textContent") == "second <b>"
    assert page.js("document.getElementById('hidden').value") == "second <b>", "a fresh token reaches the form"
    assert page.js("document.getElementById('row-0') == null && !!document.getElementById('row-60')")
    assert page.js("document.getElementById('more').open")
    assert page.js("document.activeElement.id + document.getElementById('half').value") == "half12"
    assert page.js("document.getElementById('choice').value") == "b"
    assert page.js("window.scrollY") == before
    assert page.js("document.getElementById('far').firstChild.marked == 1 && String(getSelection())") == "end"
    assert page.js("window.shifts.reduce((sum, one) => sum + one, 0)") == 0


def test_a_line_that_comes_and_goes_moves_no_focus(page: Page) -> None:
    page.js("document.getElementById('button').focus(), 1")
    page.js("document.getElementById('button').mine = 1")
    for alarm in ("a job fails", ""):
        page.state["alarm"] = alarm
        assert page.shows(f"!!document.getElementById('alarm') == {str(bool(alarm)).lower()}")
        assert page.js("document.activeElement.id == 'button' && document.activeElement.mine == 1")
    page.js("document.getElementById('row-59').mine = 1")
    page.state["rows"] = [59, *range(58), 58]  # the last comes first
    order = "[...document.querySelectorAll('tr')].map((row) => row.id.slice(4)).join()"
    assert page.shows(f"{order} == '{','.join(map(str, page.state['rows']))}'")
    assert page.js("document.getElementById('row-59').mine") == 1
    page.state["rows"] = [1, 2, 3]
    assert page.shows("document.getElementById('dot').getAttribute('cx') == '3'")
    assert page.js("document.getElementById('dot').getBoundingClientRect().width") > 0, "it is still a picture"


def test_a_page_that_nobody_sees_asks_nothing(page: Page) -> None:
    assert eventually(lambda: len(page.asked) > 2, 20)
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true})"
    page.js(hide % "true" + ", document.dispatchEvent(new Event('visibilitychange')), 1")
    page.driver.execute_async_script("setTimeout(arguments[0], 50 * 300)")  # what was under way has come
    before = len(page.asked)
    page.driver.execute_async_script("setTimeout(arguments[0], 50 * 700)")  # 0.7 s: seven looks
    assert len(page.asked) == before
    page.js(hide % "false" + ", document.dispatchEvent(new Event('visibilitychange')), 1")
    assert eventually(lambda: len(page.asked) > before, 20)


def test_a_backend_that_does_not_answer_is_said_until_it_does(
    app: Flask, state: dict[str, Any], asked: list[str], driver: Any
) -> None:
    page = Page(driver, state, asked)
    with served(app) as port:
        driver.get(f"http://mollm:pass@127.0.0.1:{port}/try")
        assert eventually(lambda: len(asked) > 1, 20)
        assert page.js("document.getElementById('contact').hidden")
    assert page.shows("document.getElementById('contact').textContent.startsWith('The backend has not answered since')")
    assert page.js("document.querySelector('h1').textContent") == "first"
    state["line"] = "back"
    with served(app, port):
        assert page.shows("document.querySelector('h1').textContent == 'back'")
        assert page.js("document.getElementById('contact').hidden")
    driver.get("about:blank")


def test_a_button_works_in_a_browser(
    app: Flask, runtime: Runtime, store: Store, connection: redis.Redis, driver: Any, tmp_path: Path
) -> None:
    """The browser's own headers, with our policies, are those of our own site."""
    page = Page(driver, {}, [])
    sent: list[tuple[str | None, str | None]] = []

    @app.before_request
    def note() -> None:
        if request.method == "POST":
            sent.append((request.headers.get("Origin"), request.headers.get("Sec-Fetch-Site")))

    with served(app) as port:
        driver.get(f"http://mollm:pass@127.0.0.1:{port}/projects/7")
        driver.find_element("css selector", "form[action='/projects/7/train'] button").click()
        assert page.shows("document.getElementById('said') && location.search == '?said=waits'")
        assert sent == [(f"http://127.0.0.1:{port}", "same-origin")]
        assert len(queued(connection)) == 1
        assert page.js("window.wrong") == []
        driver.get("about:blank")
    assert queues.enqueued(connection, "act", 7) is False
