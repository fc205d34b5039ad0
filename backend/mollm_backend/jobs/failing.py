"""Answers that fail: noted with the project once, and a few tried again now and then until the cause is gone.

Once one of them is answered, all of its kind are asked again. A server is then probed anew: it may have been started
with another window or another model.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

import structlog

from mollm.failures import kind_of, remedy
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.store import answer_errors, events
from mollm_backend.store.projects import PanelMember, Project

log = structlog.get_logger()
TRIAL = 3  # texts (chosen by hand): one alone may be odd, and more cost more each time


def note(runtime: Runtime, project: Project, member: PanelMember, errors: Mapping[str, str]) -> None:
    """Note by text key what went wrong ("": it was answered), before the answers themselves are stored."""
    fresh, better = answer_errors.note(runtime.store, member.fingerprint, errors)
    for kind in sorted(fresh):
        said = next(error for error in errors.values() if error and kind_of(error) == kind)
        line = f"{member.name} cannot answer some texts ({kind}): {said[:500].rstrip('.')}; {remedy(kind)}"
        events.add(runtime.store, "problem", line, project.id)
        log.warning("answers fail", annotator=member.name, project=project.id, kind=kind, error=said[:500])
    for kind, attempts in sorted(better.items()):
        # Not those that failed again meanwhile: a text that always fails must not be asked after each of the others.
        count = answer_errors.ask_again(runtime.store, member.fingerprint, kind=kind, attempts=attempts)
        if count:
            line = f"{member.name} answers what had failed ({kind}): {count} more texts are asked again"
            events.add(runtime.store, "info", line, project.id)


def try_some(runtime: Runtime, project: Project) -> None:
    """Ask a few failed texts of each kind again where their time has come."""
    for member in project.panel:
        for kind in answer_errors.ripe(runtime.store, member.fingerprint):
            answer_errors.ask_again(runtime.store, member.fingerprint, kind=kind, limit=TRIAL, due=time.time())
