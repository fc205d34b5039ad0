"""What is worth an alert: an LLM is away, a job keeps failing, a budget is spent, a version was refused, a certificate
was granted or withdrawn. Each line says what to do."""

from __future__ import annotations

from collections.abc import Iterator

import redis

from mollm_backend.store import Store, certificates, projects, signals, versions
from mollm_backend.store.alerts import Alert
from mollm_backend.store.certificates import Certificate
from mollm_backend.store.projects import Project
from mollm_backend.work import budget, queues

KEEPS_FAILING = 3  # failures in a row: one or two pass by themselves, such as a server that restarts
AWAY, FAILING, SPENT, REFUSED, GRANTED, WITHDRAWN = "away", "failing", "budget", "refused", "certified", "withdrawn"
LASTING = (AWAY, FAILING, SPENT)  # kinds that have an end; the others happen


def every(store: Store, connection: redis.Redis) -> list[Alert]:
    """What is so now, of all connected projects."""
    failing = queues.failing(connection)
    connected = [project for project in projects.every(store) if project.connected]
    return [fact for project in connected for fact in _of(store, project, failing)]


def _of(store: Store, project: Project, failing: dict[str, int]) -> Iterator[Alert]:
    here, n = f"project-{project.id}", project.id
    away = signals.absent(store)
    reasons = {row.name: away[row.fingerprint].reason for row in project.panel if row.fingerprint in away}
    for name, reason in reasons.items():
        line = f"{name} is away: {reason.rstrip('.')}. The others go on without it; it is asked again by itself."
        yield Alert(f"{here}-away-{name}", n, AWAY, line)
    for identity, times in sorted(failing.items()):
        job, _, rest = identity.partition("-")
        if times >= KEEPS_FAILING and rest.split("-")[0] == str(n):
            line = f"the job {job} has failed {times} times in a row: `mollm doctor {n}` says why."
            yield Alert(f"{here}-failing-{identity}", n, FAILING, line)
    spent = budget.state(store, project)
    if spent["paused"]:
        yield Alert(f"{here}-budget", n, SPENT, f"{spent['line']}.")
    newest = next(iter(versions.brief(store, n, 1)), None)
    if newest is not None and newest.status == "refused":
        gate = newest.facts.get("gate", "refused")
        line = f"the new version {newest.id} was {gate}. The published one stays: `mollm versions {n}`."
        yield Alert(f"{here}-refused-{newest.id}", n, REFUSED, line, newest.created_at)
    certificate = certificates.newest(store, n)
    if certificate is not None and certificate.status == certificates.GRANTED:
        yield Alert(f"{here}-{GRANTED}-{certificate.id}", n, GRANTED, _granted(certificate, n))
    elif certificate is not None and certificate.status == certificates.WITHDRAWN:
        line = certificate.note or f"{certificate.id} is withdrawn: `mollm report {n}` says why."
        yield Alert(f"{here}-{WITHDRAWN}-{certificate.id}", n, WITHDRAWN, line)


def _granted(certificate: Certificate, project_id: int) -> str:
    """What a certificate promises, in a line."""
    promise = (
        f"with {certificate.confidence:.0%} confidence at least {certificate.target:.0%} of "
        f"{certificate.tasks - certificate.audits:,} tasks are right"
    )
    found = f"{certificate.id}, {certificate.audits} audits, {certificate.errors} wrong"
    return f"the target is reached: {promise} ({found}): `mollm report {project_id}`."
