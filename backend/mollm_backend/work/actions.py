"""What a person may ask for by a button: which actions there are, what forbids one, and how it is queued.

A worker does it (`mollm_backend.jobs.acting`); the commands take the same way. Each action leaves one line that says
who asked for what, and what came of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256

import redis

from mollm.errors import InputError
from mollm_backend.store import Store, audits, batches, events, projects, versions
from mollm_backend.store.projects import Project
from mollm_backend.work import queues

# Action: what was asked for, in words.
ACTIONS = {
    "rollback": "a rollback to {}",
    "unpin": "the end of the pin",
    "train": "a training",
    "retry": "another try of {}",
    "audit": "an audit of {} tasks",
}
SUBJECTS = {"rollback": "version", "retry": "job", "audit": "labels"}  # action: what its subject is
COMMAND_LINE = "the command line"
# Seconds. What nobody has done by then is forgotten: nobody expects a button of yesterday to work today.
PATIENCE = 3600
LONGEST = 300  # characters of a subject; names of versions and jobs are far shorter
MOST_LABELS = 1_000_000  # of one audit: no project here is larger, and a longer number is a slip


@dataclass(frozen=True, slots=True)
class Asked:
    """`subject`: the version of a rollback, the job of a retry, the number of an audit's labels; else ""."""

    project_id: int
    action: str
    subject: str
    user: str

    @property
    def words(self) -> str:
        return ACTIONS[self.action].format(self.subject)


def check(store: Store, connection: redis.Redis, asked: Asked) -> Project:
    """The project, where nothing known forbids the action. Raises InputError that says what to do instead."""
    if asked.action not in ACTIONS:
        raise InputError(f"There is no action {asked.action!r}: there are {', '.join(ACTIONS)}.")
    if not asked.subject.isprintable() or len(asked.subject) > LONGEST:
        raise InputError("What was sent is no name of a version, of a job, or a number: press the button of the page.")
    project = projects.get(store, asked.project_id)
    if not project.connected:
        raise InputError(f"Project {project.id} is disconnected: `mollm connect {project.id}` connects it again.")
    if asked.action == "rollback":
        batch_of(store, project.id, asked.subject)
    elif asked.action == "audit":
        labels_of(asked)
        auditable(store, project)
    elif asked.action == "retry" and asked.subject not in failing(connection, project.id):
        raise InputError(f"The job {asked.subject!r} of project {project.id} does not fail (any more).")
    return project


def batch_of(store: Store, project_id: int, version: str) -> str:
    """The batch that comes back with a version. Raises InputError where one cannot go back to it."""
    versions.require(store, project_id, version)
    batch = batches.newest(store, project_id, version)
    if batch is None:
        raise InputError(f"{version} has no batch, because the gate refused it: there is nothing to go back to.")
    return batch


def auditable(store: Store, project: Project) -> str:
    """The version that an audit would be of. Raises InputError where there is none, or where one is open."""
    if project.published_version is None:
        raise InputError(f"Project {project.id} has no published version yet: there is nothing to audit.")
    if before := audits.newest(store, project.id, status=audits.OPEN):
        raise InputError(f"{before.id} is open: `mollm audit {project.id}` says how far it is, --cancel ends it.")
    return project.published_version


def labels_of(asked: Asked) -> int:
    """How many labels an audit is to have. Raises InputError for what is no such number."""
    text = asked.subject.strip()
    if not (text.isascii() and text.isdecimal() and len(text) <= 7 and 1 <= int(text) <= MOST_LABELS):
        raise InputError(f"{text[:40]!r} is no number of tasks: give a whole number of at least 1, like 100.")
    return int(text)


def failing(connection: redis.Redis, project_id: int) -> dict[str, int]:
    """By job id, how often a job of this project has failed since it last succeeded."""
    found = queues.failing(connection)
    return {job: found[job] for job in queues.of_project(found, project_id)}


def queue(connection: redis.Redis, asked: Asked) -> bool:
    """Queue an action for a worker. False where the same one waits already."""
    digest = sha256(f"{asked.action}\n{asked.subject}\n{asked.user}".encode()).hexdigest()[:12]
    return queues.enqueue(
        connection, "publish", "act", asked.project_id, asked.action, asked.subject, asked.user,
        identity=queues.job_id("act", asked.project_id, asked.action, digest), ttl=PATIENCE,
    )  # fmt: skip


def note(store: Store, asked: Asked, result: str) -> None:
    """Write the line that says who asked for what, and what came of it."""
    events.add(store, events.ACTION, f"{asked.user} asked for {asked.words}: {result}", asked.project_id)
