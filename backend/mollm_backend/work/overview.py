"""Where a project stands, on three lines: for `mollm status` and for what `mollm up` says at its start.

It reads the store and what workers noted, and computes nothing that a job has not computed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import ceil
from typing import Any

import redis

from mollm_backend.store import Store, audits, batches, certificates, events, labels, signals, versions
from mollm_backend.store.projects import Project
from mollm_backend.work import budget, progress, queues
from mollm_backend.work.noting import Running
from mollm_backend.work.progress import Progress

USUAL_AUDIT = 300  # labels: what `mollm audit` draws where it is not told; of a small rest, half of it
FAILURES = 500  # events that are looked through for the message of a job that fails


@dataclass(frozen=True)
class Overview:
    """One project. `waiting`: tasks that nobody has labelled or skipped; `next_batch` of them come first, in order."""

    project_id: int
    title: str
    url: str
    tasks: int
    readable: int
    read: dict[str, int]  # tasks that each LLM has answered, by its name
    people: int  # labels
    waiting: int
    next_batch: int
    audit_waiting: int
    version: str
    pinned: str
    trust: str
    warning: str
    next_step: str
    running: tuple[Running, ...]

    @property
    def read_share(self) -> float:
        """The share of all answers that the panel owes and has given; 1 where there is nothing to read."""
        total = self.readable * len(self.read)
        return sum(self.read.values()) / total if total else 1.0

    def reading(self) -> str:
        """How far the panel is, in words."""
        if not self.tasks:
            return "no tasks yet"
        unread = f"; {self.tasks - self.readable:,} cannot be read" if self.tasks > self.readable else ""
        if not self.read:
            return f"{self.tasks:,} tasks, the panel has yet to start{unread}"
        of = f"of {self.readable:,} tasks"
        behind = [f"{name} has read {count:,} {of}" for name, count in self.read.items() if count < self.readable]
        if not behind:
            return f"all {self.readable:,} tasks are read{unread}"
        return f"{', '.join(behind)}{unread}"

    def labelling(self) -> str:
        """What people have done, and what waits for them."""
        given = f"{self.people:,} {'label' if self.people == 1 else 'labels'} of people"
        parts = [f"{self.next_batch:,} in the next batch"] if self.next_batch else []
        parts += [f"{self.audit_waiting:,} for an audit"] if self.audit_waiting else []
        among = f" ({', '.join(parts)})" if parts else ""
        return f"{given}; {self.waiting:,} {'task waits' if self.waiting == 1 else 'tasks wait'} for people{among}"

    def line(self) -> str:
        """Everything in one line, for the log of `mollm up`."""
        version = f"version {self.version}" if self.version else "no version yet"
        return f"project {self.project_id}: {self.reading()}; {self.labelling()}; {version}"

    def as_json(self) -> dict[str, Any]:
        """The fields, `read_share`, and what runs."""
        return asdict(self) | {"read_share": self.read_share, "running": [row.as_json() for row in self.running]}


def of(store: Store, connection: redis.Redis, project: Project, batch_size: int) -> Overview:
    """The overview of a project; `batch_size` where the project has none of its own."""
    found = progress.newest(store, connection, project)
    waiting = max(found.readable - labels.closed_count(store, project.id), 0)
    open_now = len(batches.open_tasks(store, project.id, project.batch_version or ""))
    size = int(project.options.get("batch_size", batch_size))
    audit_waiting = len(audits.pending(store, project.id))
    people = labels.count(store, project.id)
    return Overview(
        project_id=project.id, title=project.title, url=f"{project.url.rstrip('/')}/projects/{project.id}/data",
        tasks=found.tasks, readable=found.readable, read=_read(project, found), people=people, waiting=waiting,
        next_batch=min(size, open_now), audit_waiting=audit_waiting, version=project.published_version or "",
        pinned=project.pin, trust=_trust(store, project, waiting), warning=_warning(store, connection, project, found),
        next_step=_next_step(store, project, found, waiting, audit_waiting, people),
        running=tuple(progress.running(connection, project.id)),
    )  # fmt: skip


def _read(project: Project, found: Progress) -> dict[str, int]:
    """How many tasks each LLM has read: on all questions, where there are several."""
    return {name: found.readable - ceil(left / project.questions) for name, left in found.left_by_name(project).items()}


def _trust(store: Store, project: Project, waiting: int) -> str:
    """The open audit, the certificate or the estimate in one line; how to get one where there is none."""
    audit = audits.newest(store, project.id, status=audits.OPEN)
    if audit is not None:
        total = sum(part.labels for part in audit.parts)
        return f"{audit.id}: {total - len(audits.pending(store, project.id, audit.id)):,} of {total:,} answered"
    certificate = certificates.newest(store, project.id)
    if certificate is not None and certificate.status == certificates.GRANTED:
        sure, share = f"{certificate.confidence:.0%}", f"{certificate.target:.0%}"
        covered = certificate.tasks - certificate.audits
        states = certificates.states(store, project.id, certificate.id)
        written = states.get(certificates.WRITTEN, 0)
        return f"{certificate.id}: {share} of {covered:,} tasks right, promised at {sure}; {written:,} are written"
    for line in project.trust.get("lines", []):
        if line.startswith("right on the tasks that were open then"):
            return str(line)
    if certificate is not None and certificate.status == certificates.REFUSED:
        return f"{certificate.id}: too much is wrong to certify {certificate.target:.0%} of the rest"
    if project.published_version is None:
        return ""
    labels_wanted = max(min(USUAL_AUDIT, waiting // 2), 1)
    return f"how right the rest is, nobody knows yet: `mollm audit {project.id} --labels {labels_wanted}` measures it"


def _warning(store: Store, connection: redis.Redis, project: Project, found: Progress) -> str:
    """The most urgent thing that is wrong, "" where nothing is."""
    if not project.connected:
        return f"disconnected: `mollm connect {project.id}` connects it again"
    if project.attention:
        return project.attention
    if failed := failure(store, connection, project.id):
        return failed
    if found.tasks and not found.readable:
        return f"none of its tasks can be read: `mollm doctor {project.id}` says why"
    away = signals.absent(store)
    gone = {row.name: away[row.fingerprint].reason for row in project.panel if row.fingerprint in away}
    for name, reason in gone.items():
        return f"{name} is away: {reason.rstrip('.')}" + (f" ({len(gone) - 1} more are)" if len(gone) > 1 else "")
    limits = budget.state(store, project)
    if limits["paused"]:
        return str(limits["line"])
    certificate = certificates.newest(store, project.id)
    if certificate is not None and certificate.status == certificates.WITHDRAWN:
        return certificate.note or f"{certificate.id} is withdrawn"
    newest = next(iter(versions.brief(store, project.id, 1)), None)
    if newest is not None and newest.status == "refused":
        return f"the newest version was refused: {newest.id} {newest.facts.get('gate', '')}".rstrip()
    return ""


def failure(store: Store, connection: redis.Redis, project_id: int) -> str:
    """What the last job that failed said, where it has not been done since; "" where all went well."""
    try:
        failing = queues.failing(connection)
    except redis.RedisError:
        return ""
    for identity, times in sorted(failing.items()):
        name, _, rest = identity.partition("-")
        if rest.split("-")[0] != str(project_id):
            continue
        newest = events.newest(store, FAILURES, project_id=project_id)
        told = (row.line for row in newest if row.kind == "problem" and row.line.startswith(f"{name}: "))
        often = "once" if times == 1 else f"{times} times"
        return f"the worker failed {often}: {next(told, name)}"
    return ""


def _next_step(
    store: Store, project: Project, found: Progress, waiting: int, audit_waiting: int, people: int
) -> str:  # fmt: skip
    """What a person may do now, in words."""
    here = f"{project.url.rstrip('/')}/projects/{project.id}/data"
    if not project.connected:
        return f"`mollm connect {project.id}`"
    if not found.tasks:
        return f"import tasks: {here}"
    if project.published_version is None:
        return "wait: the first batch comes when the panel has read all tasks, or 200 of them"
    if audit_waiting:
        return f"answer the audit's {audit_waiting:,} tasks, mixed among the others: Label All Tasks at {here}"
    audit = audits.newest(store, project.id, status=audits.OPEN)
    if audit is not None and audit.target is not None:
        return f"the audit is answered: `mollm accept {project.id}` says what may be accepted"
    if waiting and not people:
        return f"label: Label All Tasks at {here}"
    if waiting:
        return f"label: Label All Tasks at {here}; `mollm finish {project.id}` says how much there is still to do"
    return f"all is labelled: `mollm export {project.id}`"
