"""What went wrong, said to whoever asked: a page to a browser, JSON to a program."""

from __future__ import annotations

import re
from http import HTTPStatus

import redis
import structlog
from flask import Flask, Response, jsonify, make_response, request
from werkzeug.exceptions import HTTPException, NotFound

from mollm.errors import InputError, MollmError
from mollm_backend.view import template
from mollm_backend.web.shared import Web

log = structlog.get_logger()
NO_QUEUE = "The queue (Valkey or Redis) is not reachable: restart `mollm up`."


def install(app: Flask, web: Web) -> None:
    """Every error becomes an answer; none shows a traceback."""

    @app.errorhandler(MollmError)
    def refused(error: MollmError) -> Response:
        log.warning("refused", path=request.path, error=str(error))
        return told(HTTPStatus.BAD_REQUEST if isinstance(error, InputError) else 503, str(error))

    @app.errorhandler(redis.RedisError)
    def no_queue(error: redis.RedisError) -> Response:
        log.error("no queue", path=request.path, error=type(error).__name__)
        return told(503, NO_QUEUE)

    @app.errorhandler(413)
    def too_large(_error: HTTPException) -> Response:
        limit = web.settings.max_body_bytes // 2**20
        return told(413, f"The body is larger than {limit} MB: send fewer tasks, or raise MOLLM_MAX_BODY_BYTES.")

    @app.errorhandler(NotFound)
    def not_found(error: NotFound) -> Response:
        ours = error.description if error.description != NotFound.description else ""
        return told(404, ours or "There is no such page.")

    @app.errorhandler(Exception)
    def unexpected(error: Exception) -> Response:
        if isinstance(error, HTTPException):
            return told(error.code or 500, error.description or "")
        log.error("unexpected error", path=request.path, exc_info=error)
        return told(500, "Unexpected error: the backend's log has the details.")


def told(status: int, message: str) -> Response:
    """The answer. A browser names HTML among what it takes; a program takes anything."""
    if "text/html" not in request.headers.get("Accept", ""):
        return make_response(jsonify(error=message), status)
    project = re.match(r"/projects/[0-9]{1,16}(?=/)", request.path)
    back = project[0] if project else "/"
    return make_response(
        template.render("error.html", title=HTTPStatus(status).phrase, message=message, back=back), status
    )
