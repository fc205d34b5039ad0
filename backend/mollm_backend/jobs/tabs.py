"""Keep our tabs of Label Studio's Data Manager up to date: never a reason for another job to fail."""

from __future__ import annotations

from mollm_backend.jobs.runtime import Runtime
from mollm_backend.labelstudio import tabs
from mollm_backend.labelstudio.errors import LabelStudioError
from mollm_backend.store import events


def keep(runtime: Runtime, project_id: int) -> None:
    """Change what has to change; a line for people where somebody has changed one of ours, or where it failed."""
    try:
        lines = tabs.keep(runtime.store, runtime.client(), project_id)
    except LabelStudioError as error:
        events.add_once(runtime.store, "problem", f"the tabs are not up to date: {error}", project_id)
        return
    for line in lines:
        events.add_once(runtime.store, "info", line, project_id)
