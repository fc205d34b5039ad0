"""20,000 mutated bodies on every route: no 5xx, no hang, the store is as it was. No route opens without credentials.

The routes are those of the OpenAPI description, which a test of it compares with what is served.
"""

from __future__ import annotations

import copy
import json
import os
import time
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
import structlog
from flask import Flask

from mollm_backend.labelstudio.events import SECRET_HEADER
from mollm_backend.store import Store
from mollm_backend.web import openapi
from mollm_backend.work import queues

from ..backend.conftest import add_texts, app, connection, queue_url, settings, store

__all__ = ["app", "connection", "queue_url", "settings", "store"]
BODIES = int(os.environ.get("MOLLM_FUZZ_BODIES", "20000"))  # a route
BASIC = {"Authorization": "Basic " + b64encode(b"mollm:pass").decode(), "Content-Type": "application/json"}
DESCRIBED = openapi.description()["paths"]
READ = [path for path, methods in DESCRIBED.items() if "requestBody" in methods.get("post", {})]
ROUTES = [*DESCRIBED, "/nowhere"]
NAMED = {"project_id": 7, "action": "train", "name": "mollm.css"}  # what stands in a route's places
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 7, "7", "7.1", 2**63, 1e308, "", "x" * 5000, "\x00", "\ud800", "🐈", [], {}, [[]], [None],
    {"id": 7}, {"id": "7"}, {"id": None}, {"id": [1]}, "ANNOTATION_CREATED", "START_TRAINING", "<View/>", "../../etc",
)  # fmt: skip


def recorded() -> list[Any]:
    paths = sorted((Path(__file__).parent.parent / "payloads").glob("*.json"))
    bodies = [json.loads(path.read_text())["body"] for path in paths]
    return [body for body in bodies if body is not None]


def places(node: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    return [(*path, key) for key in keys] + [place for key in keys for place in places(node[key], (*path, key))]


def mutated(body: Any, where: list[tuple[Any, ...]], rng: np.random.Generator) -> bytes:
    """A recorded body with some values replaced or removed; sometimes cut, repeated or not JSON at all."""
    changed = copy.deepcopy(body)
    if rng.random() < 0.5 and isinstance(changed, dict) and "project" in changed:
        changed["project"] = {"id": 7} if isinstance(changed["project"], dict) else "7.1"
    for _ in range(int(rng.integers(0, 4))):
        *parents, last = where[int(rng.integers(len(where)))]
        node = changed
        try:
            for key in parents:
                node = node[key]
            if rng.random() < 0.2:
                del node[last]
            else:
                node[last] = copy.deepcopy(STRANGE[int(rng.integers(len(STRANGE)))])
        except (KeyError, IndexError, TypeError):
            continue  # an earlier change took this place away
    raw = json.dumps(changed).encode()
    kind = rng.random()
    if kind < 0.05:
        return raw[: int(rng.integers(len(raw)))]
    if kind < 0.08:
        return bytes(rng.integers(0, 256, size=200, dtype=np.uint8))
    return raw + raw if kind < 0.1 else raw


def content(store: Store) -> list[str]:
    with store.read() as opened:
        return list(opened.connection.driver_connection.iterdump())  # type: ignore[union-attr]


@pytest.fixture
def unlogged() -> Iterator[None]:
    """A line a refusal would bury the figures."""
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


@pytest.mark.faults
@pytest.mark.timeout(7200)
@pytest.mark.usefixtures("unlogged")
def test_no_body_breaks_the_backend(app: Flask, store: Store, connection: redis.Redis) -> None:
    add_texts(store, 5)
    before = content(store)
    rng, client = np.random.default_rng(6), app.test_client()
    bodies = recorded()
    where = [places(body) for body in bodies]
    slow = ("", 0.0)
    for route in ROUTES:
        statuses: Counter[int] = Counter()
        for n in range(BODIES):
            k = int(rng.integers(len(bodies)))
            raw = mutated(bodies[k], where[k], rng)
            method = "POST" if route in READ and n % 20 else METHODS[int(rng.integers(len(METHODS)))]
            started = time.perf_counter()
            answer = client.open(route.format(**NAMED), method=method, data=raw, headers=BASIC)
            slow = max(slow, (f"{method} {route}", time.perf_counter() - started), key=lambda found: found[1])
            statuses[answer.status_code] += 1
            described = DESCRIBED.get(route, {}).get(method.lower())
            expected = described["responses"] if described else ("404", "405")
            assert str(answer.status_code) in expected, (method, route, raw[:2000], answer.text)
            assert answer.status_code < 500, (route, raw[:2000], answer.text)
            assert "Traceback" not in answer.text
            if n % 500 == 0:
                connection.flushall()  # thousands of project numbers were nudged
        print(f"{route}: {BODIES} mutated bodies, " + ", ".join(f"{n} x {code}" for code, n in statuses.most_common()))
    print(f"no 5xx, store unchanged; the slowest answer took {1000 * slow[1]:.0f} ms ({slow[0]})")
    assert content(store) == before
    assert queues.waiting(connection)


def basic(pair: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(pair.encode()).decode()}


# What is sent in place of the right user and password (mollm, pass) or the webhook's secret (hook), by a drawn word.
WRONG: dict[str, Callable[[str], dict[str, str]]] = {
    "nothing": lambda word: {},
    "a word": lambda word: {"Authorization": word},
    "a token": lambda word: {"Authorization": f"Token {word}"},
    "the password as a token": lambda word: {"Authorization": "Token pass"},
    "the password as a bearer": lambda word: {"Authorization": "Bearer pass"},
    "a wrong password": lambda word: basic(f"mollm:{word}"),
    "a wrong user": lambda word: basic(f"{word}:pass"),
    "no password": lambda word: basic("mollm:"),
    "no user": lambda word: basic(":pass"),
    "neither": lambda word: basic(":"),
    "more than the password": lambda word: basic(f"mollm:pass{word or ' '}"),
    "less than the password": lambda word: basic("mollm:pas"),
    "the password in capitals": lambda word: basic("mollm:PASS"),
    "the webhook's secret as password": lambda word: basic("mollm:hook"),
    "no colon": lambda word: basic("mollmpass"),
    "not base64": lambda word: {"Authorization": "Basic mollm:pass"},
    "not text": lambda word: {"Authorization": "Basic " + b64encode(b"mollm:\xff\xfe").decode()},
    "digest": lambda word: {"Authorization": 'Digest username="mollm", response="pass"'},
    "a wrong secret": lambda word: {SECRET_HEADER: word + "x"},
    "an empty secret": lambda word: {SECRET_HEADER: ""},
    "the password as secret": lambda word: {SECRET_HEADER: "pass"},
    "the secret elsewhere": lambda word: {SECRET_HEADER: "hook"},  # on all routes but its own
    "forwarded": lambda word: {"X-Forwarded-For": "127.0.0.1", "X-Original-URL": "/health"},
}
OPEN = ("/health", "/ready")  # for probes, which have no login
# No way around by another spelling of a path.
BESIDE = (
    "/nowhere",
    "/health/",
    "/Health",
    "/health/../metrics",
    "/webhook/",
    "/webhook/x",
    "//metrics",
    "/%2e/metrics",
)


@pytest.mark.faults
def test_no_credentials_open_a_door(app: Flask, store: Store, connection: redis.Redis) -> None:
    """Every route that is served, every method, every kind of wrong credentials: 401, with 200 drawn words."""
    before = content(store)
    rng, client = np.random.default_rng(7), app.test_client()
    served = sorted({rule.rule for rule in app.url_map.iter_rules()})
    kinds, tried = list(WRONG), Counter[tuple[str, str]]()
    for n in range(200):
        word = "".join(chr(int(c)) for c in rng.integers(33, 127, size=int(rng.integers(0, 40))))
        for at, route in enumerate([route for route in served if route not in OPEN] + list(BESIDE)):
            kind = kinds[(n + at) % len(kinds)]
            if kind == "the secret elsewhere" and route == "/webhook":
                continue
            for method in (*METHODS, "HEAD", "OPTIONS"):
                answer = client.open(route, method=method, headers=WRONG[kind](word), json={})
                assert answer.status_code == 401, (method, route, kind, word)
                tried[route, kind] += 1
    assert len(tried) == (len(served) - len(OPEN) + len(BESIDE)) * len(kinds) - 1
    print(
        f"{sum(tried.values())} requests without or with wrong credentials, each answered 401: {len(kinds)} kinds, "
        f"200 drawn words, {len(METHODS) + 2} methods,"
    )
    print(f"{len(served) - len(OPEN)} routes and {len(BESIDE)} other spellings; open to all: {', '.join(OPEN)}")
    assert content(store) == before
    assert not queues.nudges(connection, 7)
