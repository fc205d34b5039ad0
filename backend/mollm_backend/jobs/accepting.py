"""Bring what certificates accept into Label Studio, or take it back, a piece at a time."""

from __future__ import annotations

from mollm_backend.jobs.runtime import Runtime
from mollm_backend.labelstudio import accepting
from mollm_backend.store import certificates, events
from mollm_backend.store.projects import Project


def accept(runtime: Runtime, project: Project) -> None:
    """A piece of the oldest certificate that is not finished; the next sweep queues the next piece."""
    for certificate in certificates.unfinished(runtime.store, project.id)[:1]:
        step = accepting.write if certificate.status == certificates.GRANTED else accepting.take_back
        for line in step(runtime.store, runtime.client(), project, certificate):
            events.add(runtime.store, "done", line, project.id)
