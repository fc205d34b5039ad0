"""Label Studio's ML backend protocol and its webhook: answered from the store; the rest is queued."""

from __future__ import annotations

from http import HTTPStatus

import redis
import sqlalchemy as sa
from flask import Flask, Response, jsonify, request

from mollm.errors import InputError, StoreError
from mollm_backend.labelstudio import events
from mollm_backend.store import projects, versions
from mollm_backend.web import lookup
from mollm_backend.web.shared import Web
from mollm_backend.work import queues, workers


def install(app: Flask, web: Web) -> None:
    """The routes that Label Studio calls."""

    @app.get("/health")
    def health() -> Response:
        return jsonify(status="UP", model_class="Mollm")

    @app.get("/ready")
    def ready() -> tuple[Response, int]:
        """Whether store and queue answer, and how old the newest worker's last beat is."""
        found: dict[str, object] = {"store": True, "queue": True, "worker_beat_seconds": None}
        try:
            with web.store.read() as connection:
                connection.execute(sa.text("SELECT 1"))
        except StoreError:
            found["store"] = False
        try:
            found["worker_beat_seconds"] = workers.last_beat(web.connection)
        except redis.RedisError:
            found["queue"] = False
        well = found["store"] and found["queue"]
        return jsonify(found), HTTPStatus.OK if well else HTTPStatus.SERVICE_UNAVAILABLE

    @app.post("/setup")
    def setup() -> Response:
        project = projects.find(web.store, events.parse_setup(_body()).project_id)
        return jsonify(model_version=lookup.shown_version(project))

    @app.get("/versions")
    def list_versions() -> Response:
        found = [row.id for project in projects.every(web.store) for row in versions.every(web.store, project.id)]
        return jsonify(versions=found)

    @app.post("/predict")
    def predict() -> Response:
        asked = events.parse_predict(_body())
        if asked.project_id is None:  # as upstream's own tests ask: nothing is known of tasks of no project
            return jsonify(results=[{} for _ in asked.tasks])
        project = projects.get(web.store, asked.project_id)
        answers = lookup.answers(web.store, project, asked.tasks)
        if any(not answer for answer in answers):
            queues.nudge(web.connection, project.id)
        return jsonify(results=answers, model_version=lookup.shown_version(project))

    @app.post("/webhook")
    def webhook() -> tuple[Response, int]:
        event = events.parse(_body())
        if event.known:
            projects.require(web.store, event.project_id)
        if event.start_training:
            queues.request_training(web.connection, event.project_id)
        elif event.known:
            queues.nudge(web.connection, event.project_id)
        return jsonify(status="queued"), HTTPStatus.CREATED


def _body() -> object:
    """The request's JSON. A page of another site may send text, or a form, without asking first; JSON it may not."""
    if not request.is_json:
        raise InputError("The body is not JSON: send it as application/json.")
    try:
        body = request.get_json(silent=True)
    except RecursionError:
        raise InputError("The body is nested too deeply to be read.") from None
    if body is None:
        raise InputError("The body is not JSON.")
    return body
