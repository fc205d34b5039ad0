"""The app for gunicorn: `gunicorn mollm_backend.web.wsgi:app`."""

from mollm_backend import logs, settings
from mollm_backend.web.app import create_app

_settings = settings.load()
logs.set_up(_settings.log_level)
app = create_app(_settings)
