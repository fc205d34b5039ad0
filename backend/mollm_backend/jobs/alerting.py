"""Tell what is new by each way that is set. A way that fails waits, for twice as long each time, and stops no work."""

from __future__ import annotations

import structlog

from mollm.errors import AlertError, ConfigError
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.settings import Settings
from mollm_backend.store import Store, alerts, events, projects
from mollm_backend.store.alerts import Alert
from mollm_backend.work import queues
from mollm_backend.work.alerts import facts, ways
from mollm_backend.work.alerts.message import Message, Way

log = structlog.get_logger()
LOCK = "mollm:alerting"  # one worker tells; the others look again at their next sweep
LOCKED_SECONDS = 60  # longer than all ways together take to fail
PAUSE = 60  # seconds between two messages of a way: what comes in between is told together


def check(runtime: Runtime) -> None:
    """Look at what is so, store it, and tell what was not told. Nothing is looked at where no way is set."""
    try:
        found = ways(runtime.settings)
    except ConfigError as error:
        log.warning("no alerts", error=str(error))
        return
    if not found or not runtime.connection.set(LOCK, "1", nx=True, ex=LOCKED_SECONDS):
        return
    try:
        alerts.keep(runtime.store, facts.every(runtime.store, runtime.connection), facts.LASTING)
        for way in found:
            _tell(runtime, way)
    finally:
        runtime.connection.delete(LOCK)


def _tell(runtime: Runtime, way: Way) -> None:
    waiting, identity = alerts.untold(runtime.store, way.name), job(way)
    if not waiting or queues.held(runtime.connection, identity):
        return
    if not runtime.connection.set(f"mollm:told:{way.name}", "1", nx=True, ex=PAUSE):
        return
    try:
        way.send(message(runtime.settings, runtime.store, waiting))
    except Exception as error:  # whatever a receiver or a strange address does: the sweep goes on
        ours = isinstance(error, AlertError)
        what = str(error) if ours else f"unexpected {type(error).__name__}, see the worker's log"
        if not ours:
            log.error("an alert was not sent", way=way.name, exc_info=error)
        seconds = queues.hold(runtime.connection, identity)
        runtime.connection.delete(f"mollm:told:{way.name}")
        events.add(runtime.store, "problem", f"alerts: {what} (next try in {seconds:.0f} s)")
        return
    alerts.note_told(runtime.store, way.name, waiting)
    queues.release(runtime.connection, identity)


def job(way: Way) -> str:
    """Under which name a way's failures are counted."""
    return f"alert-{way.name}"


def message(settings: Settings, store: Store, waiting: list[Alert]) -> Message:
    """What is told of these alerts."""
    titles = {project.id: project.title for project in projects.every(store)}
    return Message(waiting, titles, settings.backend_url or settings.running_backend())
