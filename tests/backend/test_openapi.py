"""The served description says what is true: its routes, its answers, and the bodies that are taken."""

from __future__ import annotations

import json
import re
from base64 import b64encode
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from flask import Flask

from ..faults.test_fuzz import mutated, places, recorded

BASIC = {"Authorization": "Basic " + b64encode(b"mollm:pass").decode()}
PARAMETER = re.compile(r"<(?:int:)?(\w+)>")
PAYLOADS = Path(__file__).parent.parent / "payloads"


@pytest.fixture
def described(app: Flask) -> dict[str, Any]:
    answer = app.test_client().get("/openapi.json", headers=BASIC)
    assert answer.status_code == 200
    return dict(json.loads(answer.text))


def body_schema(described: dict[str, Any], path: str) -> jsonschema.Draft202012Validator:
    schema = described["paths"][path]["post"]["requestBody"]["content"]["application/json"]["schema"]
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator({**schema, "components": described["components"]})


def test_it_describes_every_route_and_no_other(app: Flask, described: dict[str, Any]) -> None:
    served = {
        PARAMETER.sub(r"{\1}", rule.rule): {method.lower() for method in rule.methods or ()}
        for rule in app.url_map.iter_rules()
    }
    assert {path: set(methods) for path, methods in described["paths"].items()} == {
        path: methods - {"head", "options"} for path, methods in served.items()
    }


def test_who_may_call_is_what_it_says(app: Flask, described: dict[str, Any]) -> None:
    client, hook = app.test_client(), {"X-Mollm-Secret": "hook"}
    for path, methods in described["paths"].items():
        for method, what in methods.items():
            allowed = what.get("security", described["security"])
            for headers, scheme in (({}, None), (hook, {"webhook": []}), (BASIC, {"basic": []})):
                asked = path.format(project_id=7, action="train", name="mollm.css")
                status = client.open(asked, method=method.upper(), headers=headers, json={}).status_code
                assert (status != 401) == (not allowed or scheme in allowed), (path, method, scheme)


@pytest.mark.parametrize("path", sorted(PAYLOADS.glob("*.json")), ids=lambda path: path.stem)
def test_every_recorded_body_fits(described: dict[str, Any], path: Path) -> None:
    sent = json.loads(path.read_text())
    assert sent["method"].lower() in described["paths"][sent["path"]]
    if sent["body"] is not None:
        body_schema(described, sent["path"]).validate(sent["body"])


def test_what_is_taken_fits_and_what_is_answered_is_described(app: Flask, described: dict[str, Any]) -> None:
    rng, client = np.random.default_rng(11), app.test_client()
    bodies = recorded()
    where = [places(body) for body in bodies]
    schemas = {path: body_schema(described, path) for path in ("/predict", "/setup", "/webhook")}
    taken = 0
    for n in range(600):
        k, path = int(rng.integers(len(bodies))), list(schemas)[n % 3]
        raw = mutated(bodies[k], where[k], rng)
        answer = client.post(path, data=raw, headers=BASIC, content_type="application/json")
        assert str(answer.status_code) in described["paths"][path]["post"]["responses"]
        if answer.status_code < 300:
            taken += 1
            schemas[path].validate(json.loads(raw))
    assert taken > 50
