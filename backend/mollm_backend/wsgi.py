"""gunicorn's entry: `gunicorn mollm_backend.wsgi:app`."""

from mollm_backend import logs, settings
from mollm_backend.app import create_app

logs.set_up()
app = create_app(settings.load())
