"""`mollm doctor`'s findings: what hinders the work, first towards Label Studio, then in queue, panel and texts."""

from __future__ import annotations

from mollm_backend.doctor import alerts, label_studio, texts, work
from mollm_backend.doctor.finding import Finding
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.settings import Settings
from mollm_backend.store import Store, projects


def examine(
    store: Store, client: LabelStudioClient, settings: Settings, project_id: int | None = None
) -> list[Finding]:
    """All findings on one project, or on all (None). Raises InputError for a project that the store does not know."""
    chosen = projects.every(store) if project_id is None else [projects.get(store, project_id)]
    return [
        *label_studio.examine(store, client, settings, project_id),
        *work.examine(store, settings, chosen),
        *texts.examine(store, settings, chosen),
        *alerts.examine(settings),
    ]
