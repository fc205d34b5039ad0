"""The OpenAPI 3.1 description of the backend. A test compares it with the routes and the parsers."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from mollm_backend.labelstudio.events import ACTIONS, MAX_TASKS, SECRET_HEADER
from mollm_backend.labelstudio.label_config import MAX_CONFIG
from mollm_backend.work.actions import ACTIONS as ACTIONS_ASKED
from mollm_backend.work.actions import SUBJECTS

JSON = dict[str, Any]


def _object(*required: str, **properties: JSON) -> JSON:
    """An object with these properties."""
    return {"type": "object", "required": list(required), "properties": properties}


_ID: JSON = {
    "anyOf": [
        {"type": "integer", "minimum": 1, "exclusiveMaximum": 2**53},
        {"type": "string", "pattern": r"^[0-9]{1,16}(\.|$)", "description": 'also "<id>.<created>"'},
    ]
}
_PROJECT: JSON = {"$ref": "#/components/schemas/Project"}
_TEXT_OR_NONE: JSON = {"type": ["string", "null"], "maxLength": MAX_CONFIG}
_SCHEMAS: dict[str, JSON] = {
    "Project": {"anyOf": [*_ID["anyOf"], {"type": "object", "required": ["id"], "properties": {"id": _ID}}]},
    "Event": {
        "description": f"A hint that something happened. Known actions name a project: {', '.join(ACTIONS)}. "
        "Others are passed over.",
        "type": "object",
        "required": ["action"],
        "properties": {"action": {"type": "string", "minLength": 1, "maxLength": 64}},
        "if": {"properties": {"action": {"enum": list(ACTIONS)}}},
        "then": {"required": ["project"], "properties": {"project": _PROJECT}},
    },
    "PredictRequest": _object(
        "tasks",
        project={"anyOf": [_PROJECT, {"type": "null"}], "description": "Without one, every task is answered by {}."},
        tasks={
            "type": "array",
            "maxItems": MAX_TASKS,
            "items": {"description": 'A task with "id" and "data"; what is not one is answered by {}.'},
        },
        label_config=_TEXT_OR_NONE,
    ),
    "SetupRequest": _object(
        "project",
        project=_PROJECT,
        schema=_TEXT_OR_NONE,
        extra_params={"description": "Anything."},
    )
    | {"description": "The access token that Label Studio sends along is never read."},
    "Error": _object("error", error={"type": "string"}),
}
_SETUP = _object("model_version", model_version={"type": "string"})
_PREDICTED = _object(
    "results",
    model_version={"type": "string"},
    results={
        "description": "One entry a task, in order; {} for what is not known yet.",
        "type": "array",
        "items": {"type": "object", "properties": {"result": {"type": "array", "minItems": 1}}},
    },
)  # fmt: skip


def description() -> JSON:
    """The whole description."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "mollm", "version": version("mollm"),
                 "description": "Label Studio's ML backend protocol, the pages and the metrics."},
        "security": [{"basic": []}],
        "components": {
            "schemas": _SCHEMAS,
            "securitySchemes": {
                "basic": {"type": "http", "scheme": "basic"},
                "webhook": {"type": "apiKey", "in": "header", "name": SECRET_HEADER},
            },
        },
        "paths": {
            "/": {"get": _answer("The list of all projects", kind="text/html")},
            "/health": {"get": _answer("Whether the backend is there", open_to_all=True)},
            "/index.json": {
                "get": _answer("Of each project its state, progress, what waits and one warning; and what happened")
            },
            "/metrics": {"get": _answer("Prometheus metrics", kind="text/plain", down=True)},
            "/openapi.json": {"get": _answer("This description")},
            "/predict": {"post": _asked("Pre-annotations from the store", "PredictRequest", _PREDICTED, down=True)},
            "/projects/{project_id}": {"get": _of_project(_answer("The page of a project", kind="text/html"))},
            "/projects/{project_id}.json": {"get": _of_project(_answer("What the page of a project shows"))},
            "/projects/{project_id}/{action}": {"post": _action()},
            "/ready": {"get": _ready()},
            "/setup": {"post": _asked("The version that is published", "SetupRequest", _SETUP)},
            "/static/{name}": {"get": _asset()},
            "/status.json": {"get": _answer("All projects at length: panel, versions, batch, budget, costs")},
            "/versions": {"get": _answer("All versions")},
            "/webhook": {
                "post": _asked("Something happened", "Event", {"type": "object"}, status="201", down=True)
                | {"security": [{"webhook": []}, {"basic": []}]}
            },
        },
    }  # fmt: skip


def _answer(
    what: str, schema: JSON | None = None, *,
    kind: str = "application/json", status: str = "200", open_to_all: bool = False, down: bool = False,
) -> JSON:  # fmt: skip
    """A route without a request body. `down`: it answers 503 while the queue cannot be reached."""
    answers: JSON = {status: {"description": what, "content": {kind: {"schema": schema or {}}}}}
    if not open_to_all:
        answers["401"] = _error("Wrong or missing credentials")
    if down:
        answers["503"] = _error("The queue cannot be reached")
    return {"summary": what, "responses": answers} | ({"security": []} if open_to_all else {})


def _asked(what: str, body: str, schema: JSON, *, status: str = "200", down: bool = False) -> JSON:
    """What is answered to a body of JSON."""
    found = _answer(what, schema, status=status, down=down)
    found["requestBody"] = {
        "required": True,
        "content": {"application/json": {"schema": {"$ref": f"#/components/schemas/{body}"}}},
    }
    found["responses"] |= {
        "400": _error("The body cannot be read"),
        "403": _error("From another site"),
        "413": _error("The body is too large"),
    }
    return found


def _ready() -> JSON:
    """For a health check: no credentials, and nothing of the projects."""
    found = _object("store", "queue", "worker_beat_seconds", store={"type": "boolean"}, queue={"type": "boolean"},
                    worker_beat_seconds={"type": ["number", "null"], "minimum": 0})  # fmt: skip
    route = _answer("Store and queue answer; seconds since a worker's last beat", found, open_to_all=True)
    content = {"application/json": {"schema": found}}
    route["responses"]["503"] = {"description": "The store or the queue does not answer", "content": content}
    return route


def _in_path(name: str, schema: JSON) -> JSON:
    return {"name": name, "in": "path", "required": True, "schema": schema}


def _of_project(route: JSON) -> JSON:
    """A route below a project."""
    route["parameters"] = [_in_path("project_id", {"type": "integer", "minimum": 0})]
    route["responses"]["404"] = _error("The project is not connected")
    return route


def _action() -> JSON:
    """A button: it is queued for a worker, and the answer leads back to the page."""
    fields = {name: {"type": "string"} for name in ("csrf", *SUBJECTS.values())}
    answers = {"303": {"description": "Queued: back to the page, which says so"}, "401": _error("Wrong credentials"),
               "400": _error("It cannot be done, and why"), "403": _error("Not from a form of our pages"),
               "404": _error("The project is not connected"),
               "413": _error("The form is too large"), "503": _error("The queue cannot be reached")}  # fmt: skip
    form = {"schema": _object("csrf", **fields)}
    return {
        "summary": "Do something with a project: the token is in the forms of its page",
        "parameters": [_in_path("project_id", {"type": "integer", "minimum": 0}),
                       _in_path("action", {"type": "string", "enum": list(ACTIONS_ASKED)})],
        "requestBody": {"required": True, "content": {"application/x-www-form-urlencoded": form}},
        "responses": answers,
    }  # fmt: skip


def _asset() -> JSON:
    """A file that the pages need."""
    route = _answer("A style sheet, the script or the icon; `v`, its digest, lets a browser keep it", kind="text/css")
    version = {"name": "v", "in": "query", "schema": {"type": "string"}}
    route["parameters"] = [_in_path("name", {"type": "string"}), version]
    route["responses"] |= {"304": {"description": "It has not changed"}, "404": _error("There is no such file")}
    return route


def _error(what: str) -> JSON:
    return {"description": what, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}}
