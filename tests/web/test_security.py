"""Each answer carries the headers that bind a browser, and nobody comes in without the password."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from mollm_backend.store import Store, projects
from mollm_backend.view import template

from .conftest import BASIC, HTML, Browser

PATHS = [
    "/", "/index.json", "/projects/7", "/projects/7.json", "/status.json", "/metrics", "/openapi.json", "/versions",
    "/static/mollm.css", "/static/mollm.js", "/static/mollm.svg", "/health",
    "/ready",
]  # fmt: skip
WRONG = ["/nowhere", "/projects/99", "/projects/99.json", "/static/none.css", "/static/..%2fapp.py", "/projects/x"]


def policy(answer: Any) -> dict[str, str]:
    """The Content-Security-Policy, by directive."""
    rows = answer.headers["Content-Security-Policy"].split("; ")
    return dict(row.split(" ", 1) for row in rows)


@pytest.mark.parametrize("signed_in", [True, False])
@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
@pytest.mark.parametrize("path", [*PATHS, *WRONG, "/projects/7/train", "/projects/7/nothing"])
def test_each_answer_has_the_headers(app: Flask, path: str, method: str, signed_in: bool) -> None:
    answer = app.test_client().open(path, method=method, headers=BASIC if signed_in else {})
    found = policy(answer)
    assert found["default-src"] == "'none'"
    assert found["script-src"] == found["style-src"] == found["form-action"] == found["connect-src"] == "'self'"
    assert found["base-uri"] == found["frame-ancestors"] == "'none'"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["Cross-Origin-Resource-Policy"] == answer.headers["Referrer-Policy"] == "same-origin"
    if not path.startswith("/static/mollm") or answer.status_code != 200:
        assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("path", [path for path in [*PATHS, *WRONG] if path not in ("/health", "/ready")])
def test_each_page_needs_the_password(app: Flask, path: str) -> None:
    for headers in ({}, {"X-Mollm-Secret": "hook"}):
        answer = app.test_client().get(path, headers=headers | HTML)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Basic")
        assert "Pets" not in answer.text


@pytest.mark.parametrize("path", PATHS)
def test_each_page_answers(browser: Browser, path: str) -> None:
    assert browser.get(path).status_code == 200


@pytest.mark.parametrize("path", WRONG)
def test_an_error_is_a_page_for_a_browser_and_json_for_a_program(app: Flask, browser: Browser, path: str) -> None:
    page = browser.get(path)
    assert (page.status_code, page.mimetype) == (404, "text/html")
    assert '<a href="/"' in page.text
    said = app.test_client().get(path, headers=BASIC)
    assert (said.status_code, said.mimetype) == (404, "application/json")
    assert template.commands(said.json["error"]) in page.text  # type: ignore[index]


def test_an_unknown_project_says_what_to_do(browser: Browser) -> None:
    assert "mollm connect 99" in browser.get("/projects/99").text
    assert browser.get(f"/projects/{10**30}").status_code == 404


def test_a_file_is_kept_for_ever_under_its_digest_and_compared_without_it(browser: Browser) -> None:
    page = browser.get("/").text
    address = page.split('<script src="')[1].split('"')[0]
    kept = browser.get(address)
    assert "immutable" in kept.headers["Cache-Control"]
    assert kept.mimetype == "text/javascript"
    tag = kept.headers["ETag"]
    assert browser.get("/static/mollm.js", **{"If-None-Match": tag}).status_code == 304
    assert browser.get("/static/mollm.js", **{"If-None-Match": '"other"'}).status_code == 200
    for other in ("/static/mollm.js", "/static/mollm.js?v=old"):
        assert browser.get(other).headers["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    ("address", "safe"),
    [("http://ls:8080", True), ("HTTPS://ls.example/a?b=c#d", True), ("http://[::1]:8080/x", True), ("", False),
     ("javascript:alert(1)", False), ("JaVaScRiPt:alert(1)//http://x", False), (" javascript:alert(1)", False),
     ("java\nscript:alert(1)", False), ("http://x\njavascript:alert(1)", False), ("data:text/html,x", False),
     ("//evil.example", False), ("http:\\\\evil", False), ('http://x" onclick="alert(1)', False), ("ftp://x", False),
     (None, False), ("vbscript:x", False), ("file:///etc/passwd", False)],
)  # fmt: skip
def test_only_http_becomes_a_link(address: str | None, safe: bool) -> None:
    assert template.safe_url(address) == (address if safe else "")


@pytest.mark.parametrize("address", ["javascript:alert(1)", "JAVASCRIPT://x%0aalert(1)", "data:text/html,<b>"])
def test_a_project_at_such_an_address_has_no_link_to_it(store: Store, browser: Browser, address: str) -> None:
    projects.change(store, 7, url=address)
    for path in ("/", "/projects/7"):
        page = browser.get(path).text
        assert "Pets" in page
        assert address.split(":")[0].lower() + ":" not in page.lower().replace("data:image", "")


def test_no_page_holds_a_style_or_a_script_of_its_own(store: Store, browser: Browser) -> None:
    for path in ("/", "/projects/7", "/nowhere"):
        page = browser.get(path).text.lower()
        assert " style=" not in page
        assert "<style" not in page
        assert page.count("<script") == 1
        assert " onclick" not in page
