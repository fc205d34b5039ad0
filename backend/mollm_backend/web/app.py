"""The web process: it answers from the store in milliseconds and queues the rest. It loads no model, writes no row."""

from __future__ import annotations

import redis
from flask import Flask

from mollm.errors import ConfigError
from mollm_backend.settings import Settings
from mollm_backend.store import Store
from mollm_backend.web import actions, errors, latency, pages, protocol, security
from mollm_backend.web.shared import Web
from mollm_backend.work import queues


def create_app(settings: Settings, store: Store | None = None, connection: redis.Redis | None = None) -> Flask:
    """The Flask app: Label Studio's ML backend protocol, the pages with their actions, and the metrics.

    Raises ConfigError if a secret is empty.
    """
    if not (settings.basic_auth_password.get_secret_value() and settings.webhook_secret.get_secret_value()):
        raise ConfigError("An empty password or webhook secret would let anybody in: read the settings by `load`.")
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    web = Web(settings, store or Store(settings.store_url), connection or queues.connect(settings.queue_url))
    latency.install(app)
    security.install(app, settings)
    errors.install(app, web)
    protocol.install(app, web)
    pages.install(app, web)
    actions.install(app, web)
    return app
