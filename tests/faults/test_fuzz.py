"""20,000 mutated bodies on every route: no 5xx, no hang, and the store is as it was."""

from __future__ import annotations

import copy
import json
import time
from base64 import b64encode
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import redis
from flask import Flask

from mollm.store import Store
from mollm_backend import openapi, queues

from ..backend.conftest import add_texts, app, connection, settings, store, valkey_url

__all__ = ["app", "connection", "settings", "store", "valkey_url"]
BODIES = 20_000
BASIC = {"Authorization": "Basic " + b64encode(b"mollm:pass").decode(), "Content-Type": "application/json"}
DESCRIBED = openapi.description()["paths"]
READ = [path for path, methods in DESCRIBED.items() if "requestBody" in methods.get("post", {})]
ROUTES = [*DESCRIBED, "/nowhere"]
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


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_no_body_breaks_the_backend(app: Flask, store: Store, connection: redis.Redis) -> None:
    add_texts(store, 5)
    before = content(store)
    rng = np.random.default_rng(6)
    bodies = recorded()
    where = [places(body) for body in bodies]
    client = app.test_client()
    statuses: Counter[int] = Counter()
    slowest = 0.0
    for n in range(BODIES):
        k = int(rng.integers(len(bodies)))
        raw = mutated(bodies[k], where[k], rng)
        # The light routes take any body alike; most of the work goes where a body is read.
        route = READ[int(rng.integers(len(READ)))] if n % 20 else ROUTES[int(rng.integers(len(ROUTES)))]
        method = "POST" if n % 20 else METHODS[int(rng.integers(len(METHODS)))]
        started = time.perf_counter()
        answer = client.open(route, method=method, data=raw, headers=BASIC)
        slowest = max(slowest, time.perf_counter() - started)
        statuses[answer.status_code] += 1
        described = DESCRIBED.get(route, {}).get(method.lower())
        expected = described["responses"] if described else ("404", "405")
        assert str(answer.status_code) in expected, (method, route, raw[:2000], answer.text)
        assert answer.status_code < 500, (route, raw[:2000], answer.text)
        assert "Traceback" not in answer.text
        if n % 500 == 0:
            connection.flushall()  # thousands of project numbers were nudged
    print(f"{BODIES} bodies: {dict(statuses)}, the slowest took {1000 * slowest:.0f} ms")
    assert content(store) == before
    assert queues.waiting(connection)


@pytest.mark.faults
def test_no_credentials_open_a_door(app: Flask) -> None:
    rng = np.random.default_rng(7)
    client = app.test_client()
    closed = [route for route in ROUTES if route != "/health"]
    for _ in range(200):
        secret = "".join(chr(int(c)) for c in rng.integers(33, 127, size=int(rng.integers(0, 40))))
        headers = [
            {}, {"Authorization": secret}, {"X-Mollm-Secret": secret},
            {"Authorization": "Basic " + b64encode(f"mollm:{secret}".encode()).decode()},
        ][int(rng.integers(4))]  # fmt: skip
        route = closed[int(rng.integers(len(closed)))]
        method = METHODS[int(rng.integers(len(METHODS)))]
        assert client.open(route, method=method, headers=headers, json={}).status_code == 401, (method, route)
