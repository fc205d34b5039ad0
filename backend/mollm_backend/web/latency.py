"""How long requests take, by route and status: counted in each web process, and read together at a scrape.

Several gunicorn processes write to files of one directory (prometheus_client's multiprocess mode), which
`supervisor/gunicorn_settings.py` makes; a single process keeps its numbers in memory.
"""

from __future__ import annotations

import os
import time

from flask import Flask, Response, g, request
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

DIRECTORY = "PROMETHEUS_MULTIPROC_DIR"  # the library's own variable
# Seconds. An answer is a look-up in the store: milliseconds; Label Studio gives up after 100 s.
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 100.0)
_here = CollectorRegistry()
_REQUESTS = Histogram(
    "mollm_request_seconds", "Seconds that a request took", ["route", "status"], registry=_here, buckets=BUCKETS
)


def install(app: Flask) -> None:
    """Time every request. An address without a route counts as `none`, so that strangers make no new series."""

    @app.before_request
    def begin() -> None:
        g.began = time.perf_counter()

    @app.after_request
    def end(answer: Response) -> Response:
        route = request.url_rule.rule if request.url_rule else "none"
        if "began" in g:
            _REQUESTS.labels(route, str(answer.status_code)).observe(time.perf_counter() - g.began)
        return answer


def text() -> bytes:
    """The histogram in the exposition format, over all processes."""
    registry = _here
    if os.environ.get(DIRECTORY):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return bytes(generate_latest(registry))
