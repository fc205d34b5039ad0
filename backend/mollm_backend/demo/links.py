"""Connect the demo's project to the backend, as `mollm connect` does, and give it the demo's examples."""

from __future__ import annotations

from mollm.errors import MollmError
from mollm_backend.demo.texts import Texts
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.connect import connect
from mollm_backend.settings import Settings
from mollm_backend.store import Store, projects
from mollm_backend.wheels import Tell


def connect_demo(store: Store, client: LabelStudioClient, settings: Settings, project_id: int, texts: Texts) -> None:
    """Connect (again: the ports may have changed); the examples go into the prompts before any LLM is asked."""
    project = connect(store, client, settings, project_id, settings.backend_url)
    options = project.options | {"refit_every": settings.refit_every, "batch_size": settings.batch_size}
    options.setdefault("shots", [list(example) for example in texts.examples])
    projects.change(store, project_id, options=options)


def connect_others(store: Store, client: LabelStudioClient, settings: Settings, project_id: int, tell: Tell) -> None:
    """Earlier projects of this home: their addresses may have changed too. One that is gone is only told of."""
    for project in projects.every(store):
        if project.connected and project.id != project_id:
            try:
                connect(store, client, settings, project.id, settings.backend_url)
            except MollmError as error:
                tell(f"project {project.id} is not connected: {error}")
