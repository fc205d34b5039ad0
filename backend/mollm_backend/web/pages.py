"""The pages, the same as JSON for scripts, the metrics, and the files that pages need."""

from __future__ import annotations

from typing import Any

import prometheus_client
import redis
from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import NotFound

from mollm_backend.view import assets, index, render, template
from mollm_backend.view import project as project_view
from mollm_backend.web import actions, openapi, prometheus, security
from mollm_backend.web.shared import Web
from mollm_backend.work import workers

FOR_EVER = "public, max-age=31536000, immutable"  # an address with the content's digest never changes its content
ASK_FIRST = "no-cache"  # it may be kept, but the digest must be compared each time


def install(app: Flask, web: Web) -> None:
    """The routes for people, for scripts and for Prometheus."""
    template.prepare()

    @app.get("/")
    def index_page() -> str:
        return index.page(_said(web, index.state(web.store, web.connection)))

    @app.get("/index.json")
    def index_json() -> Response:
        return jsonify(index.state(web.store, web.connection))

    @app.get("/projects/<int:project_id>")
    def project_page(project_id: int) -> str:
        state = project_view.state(web.store, web.connection, web.project(project_id))
        user = (request.authorization.username if request.authorization else "") or ""
        buttons = render.Actions(security.token(web.settings, user, security.today()))
        return render.project_page(_said(web, state), actions=buttons)

    @app.get("/projects/<int:project_id>.json")
    def project_json(project_id: int) -> Response:
        return jsonify(project_view.state(web.store, web.connection, web.project(project_id)))

    @app.get("/status.json")
    def status_json() -> Response:
        return jsonify(project_view.status(web.store, web.connection))

    @app.get("/static/<name>")
    def asset(name: str) -> Response:
        found = assets.every().get(name)
        if found is None:
            raise NotFound
        answer = Response(found.content, content_type=found.kind)
        answer.set_etag(found.digest)
        answer.headers["Cache-Control"] = FOR_EVER if request.args.get("v") == found.digest else ASK_FIRST
        answer.make_conditional(request)
        return answer

    @app.get("/openapi.json")
    def described() -> Response:
        return jsonify(openapi.description())

    @app.get("/metrics")
    def metrics() -> Response:
        text = prometheus.text(web.store, web.connection)
        return Response(text, content_type=prometheus_client.CONTENT_TYPE_LATEST)


def _said(web: Web, state: dict[str, Any]) -> dict[str, Any]:
    """The state with what the page says of the last action, and of the worker that would do it."""
    try:
        idle = not workers.every(web.connection)
    except redis.RedisError:
        idle = True
    return state | {"said": actions.said(request.args.get("said")), "no_worker": idle}
