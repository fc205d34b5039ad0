"""gunicorn's entry: `gunicorn mollm_backend.wsgi:app`."""

from mollm_backend import settings
from mollm_backend.app import create_app

app = create_app(settings.load())
