"""Connect the demo's project to the backend, as `mollm connect` would, and give it the demo's examples."""

from __future__ import annotations

from mollm.store import Store, projects
from mollm_backend.demo.texts import Texts
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.connect import connect
from mollm_backend.settings import Settings


def connect_demo(store: Store, settings: Settings, project_id: int, texts: Texts) -> None:
    """Connect (again: the ports may have changed); the examples go into the prompts before any LLM is asked."""
    client = LabelStudioClient(settings.label_studio_url, settings.label_studio_api_key.get_secret_value())
    try:
        project = connect(store, client, settings, project_id, settings.backend_url)
    finally:
        client.close()
    options = project.options | {"refit_every": settings.refit_every, "batch_size": settings.batch_size}
    options.setdefault("shots", [list(example) for example in texts.examples])
    projects.change(store, project_id, options=options)
