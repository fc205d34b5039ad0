"""Bring what certificates accept into Label Studio, or take it back, a piece at a time."""

from __future__ import annotations

from functools import partial

from mollm_backend.jobs.runtime import Runtime
from mollm_backend.labelstudio import accepting
from mollm_backend.store import certificates, events
from mollm_backend.store.projects import Project
from mollm_backend.work.noting import Note, noted


def accept(runtime: Runtime, project: Project) -> None:
    """A piece of the oldest certificate that is not finished; the next sweep queues the next piece."""
    for certificate in certificates.unfinished(runtime.store, project.id)[:1]:
        writes = certificate.status == certificates.GRANTED
        step, rest = (accepting.write, certificates.WAITING) if writes else (accepting.take_back, certificates.WRITTEN)
        counts = certificates.states(runtime.store, project.id, certificate.id)
        of = sum(counts.values())
        before = of - counts.get(rest, 0)
        what = "writing accepted labels" if writes else "taking accepted labels back"
        with noted(runtime.connection, project.id, what, of, done=before, in_pieces=True) as note:
            tell = partial(_reached, note, before)
            for line in step(runtime.store, runtime.client(), project, certificate, tell):
                events.add(runtime.store, "done", line, project.id)


def _reached(note: Note, before: int, done: int) -> None:
    note.reached(before + done)
