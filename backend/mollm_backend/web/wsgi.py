"""The app for gunicorn: `gunicorn mollm_backend.web.wsgi:app`."""

from mollm_backend import logs, settings
from mollm_backend.web.app import create_app

logs.set_up()
app = create_app(settings.load())
