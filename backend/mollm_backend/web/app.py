"""The web process: it answers from the store in milliseconds and queues the rest. It loads no model, writes no row."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from http import HTTPStatus

import prometheus_client
import redis
import structlog
from flask import Flask, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from mollm.errors import ConfigError, InputError, MollmError
from mollm_backend.labelstudio import events
from mollm_backend.settings import Settings
from mollm_backend.store import Store, projects, versions
from mollm_backend.web import dashboard, lookup, openapi, prometheus
from mollm_backend.work import queues

log = structlog.get_logger()


@dataclass(frozen=True)
class Web:
    """What all requests share: the open store, the connection to the queue, the settings."""

    settings: Settings
    store: Store
    connection: redis.Redis

    def allowed(self) -> bool:
        """Whether the request has the right basic auth. The comparison takes constant time."""
        given = request.authorization
        user = (given.username if given and given.type == "basic" else "") or ""
        password = (given.password if given and given.type == "basic" else "") or ""
        secret = self.settings.basic_auth_password.get_secret_value()
        right_user = hmac.compare_digest(user.encode(), self.settings.basic_auth_user.encode())
        return hmac.compare_digest(password.encode(), secret.encode()) and right_user

    def webhook_allowed(self) -> bool:
        """Whether the request has our secret header. Annotation events have it and no basic auth."""
        given = request.headers.get(events.SECRET_HEADER, "")
        return hmac.compare_digest(given.encode(), self.settings.webhook_secret.get_secret_value().encode())


def create_app(settings: Settings, store: Store | None = None, connection: redis.Redis | None = None) -> Flask:
    """The Flask app: Label Studio's ML backend protocol, the status page and the metrics.

    Raises ConfigError if a secret is empty.
    """
    if not (settings.basic_auth_password.get_secret_value() and settings.webhook_secret.get_secret_value()):
        raise ConfigError("An empty password or webhook secret would let anybody in: read the settings by `load`.")
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    web = Web(settings, store or Store(settings.store_url), connection or queues.connect(settings.queue_url))
    _guard(app, web)
    _protocol(app, web)
    _pages(app, web)
    return app


def _guard(app: Flask, web: Web) -> None:
    @app.before_request
    def authenticate() -> Response | None:
        if request.path == "/health" or web.allowed():
            return None
        if request.path == "/webhook" and web.webhook_allowed():
            return None
        answer = jsonify(error="Wrong or missing credentials: see `mollm doctor`.")
        answer.status_code = HTTPStatus.UNAUTHORIZED
        answer.headers["WWW-Authenticate"] = 'Basic realm="mollm"'
        return answer

    @app.errorhandler(MollmError)
    def say(error: MollmError) -> tuple[Response, int]:
        log.warning("refused", path=request.path, error=str(error))
        return jsonify(error=str(error)), HTTPStatus.BAD_REQUEST if isinstance(error, InputError) else 503

    @app.errorhandler(redis.RedisError)
    def no_queue(error: redis.RedisError) -> tuple[Response, int]:
        log.error("no queue", path=request.path, error=type(error).__name__)
        return jsonify(error="The queue (Valkey or Redis) is not reachable: restart `mollm up`."), 503

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> tuple[Response, int]:
        if isinstance(error, HTTPException):
            return jsonify(error=error.description), error.code or 500
        log.error("unexpected error", path=request.path, exc_info=error)
        return jsonify(error="Unexpected error: the backend's log has the details."), 500


def _body() -> object:
    body = request.get_json(force=True, silent=True)
    if body is None:
        raise InputError("The body is not JSON.")
    return body


def _protocol(app: Flask, web: Web) -> None:
    @app.get("/health")
    def health() -> Response:
        return jsonify(status="UP", model_class="Mollm")

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


def _pages(app: Flask, web: Web) -> None:
    @app.get("/")
    def status_page() -> str:
        return dashboard.page(dashboard.status(web.store, web.connection))

    @app.get("/status.json")
    def status_json() -> Response:
        return jsonify(dashboard.status(web.store, web.connection))

    @app.get("/openapi.json")
    def described() -> Response:
        return jsonify(openapi.description())

    @app.get("/metrics")
    def metrics() -> Response:
        text = prometheus.text(web.store, web.connection)
        return Response(text, content_type=prometheus_client.CONTENT_TYPE_LATEST)

    @app.errorhandler(413)
    def too_large(_error: HTTPException) -> tuple[Response, int]:
        limit = web.settings.max_body_bytes // 2**20
        return jsonify(
            error=f"The body is larger than {limit} MB: send fewer tasks, or raise MOLLM_MAX_BODY_BYTES."
        ), 413

    @app.errorhandler(404)
    def not_found(_error: HTTPException) -> tuple[Response, int]:
        return jsonify(error="There is no such page."), 404
