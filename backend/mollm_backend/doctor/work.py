"""Whether the work is being done: a worker, jobs that fail, LLMs that are away, and how far the reading is."""

from __future__ import annotations

from collections.abc import Iterator

import redis

from mollm_backend.doctor.finding import Finding, fine, notice, problem
from mollm_backend.settings import Settings
from mollm_backend.store import Store, answer_errors, signals, tasks
from mollm_backend.store.projects import Project
from mollm_backend.view import doing
from mollm_backend.work import budget, progress, queues, workers

MANY = 0.05  # of the tasks (chosen by hand): fewer failed answers of one annotator change hardly any label


def examine(store: Store, settings: Settings, chosen: list[Project]) -> Iterator[Finding]:
    """What the queue and the store tell of the work on the chosen projects that are connected."""
    connection = queues.connect(settings.queue_url)
    try:
        if not workers.every(connection):
            yield problem("no-worker", "no worker is running, so nothing is read or learned", "`mollm up`")
        hosts = sorted({workers.host_of(name) for name in workers.every(connection)})
        if len(hosts) > 1 and not settings.shared:
            line = f"workers run on {len(hosts)} hosts without MOLLM_SHARED: each may lack another's versions"
            fix = "set MOLLM_SHARED on all of them to one directory that they all see, or one object store"
            yield notice("not-shared", line, fix)
        for name, job in workers.dead(connection).items():
            line = f"the worker {name} died today in the middle of {job}, which was queued again"
            yield notice("worker-died", line, "look at the end of its log; too little memory is the usual reason")
        failing = queues.failing(connection)
    except redis.RedisError:
        yield problem("no-queue", "the queue does not answer, so nothing is read or learned", "`mollm up`")
        return
    for project in chosen:
        if project.connected:
            for line in doing.failures(store, project, failing):
                fix = "do as it says and start `mollm up` again: that tries at once"
                yield problem("job-failed", f"project {project.id}: {line}", fix)
            yield from _panel(store, connection, project)


def _panel(store: Store, connection: redis.Redis, project: Project) -> Iterator[Finding]:
    """Who is away, and what is still to be read until the next version."""
    away = signals.absent(store)
    for member in project.panel:
        if member.fingerprint in away:
            line = f"project {project.id}: {member.name} is away: {away[member.fingerprint].reason.rstrip('.')}"
            fix = "mend that; it is asked again by itself, and the others go on without it"
            yield notice("annotator-away", line, fix)
    for failed in [*answer_errors.problems(store, project), *answer_errors.unnoted(store, project)]:
        fix = f"{failed.remedy}; `mollm prelabel {project.id} --again` asks for them again at once"
        tell = problem if failed.texts > MANY * tasks.count(store, project.id)[0] else notice
        yield tell("answers-failed", f"project {project.id}: {failed.line}", fix)
    state = budget.of(store, project)
    if state.paused:
        yield notice("paused", f"project {project.id}: {state.paused}", f"`mollm options {project.id}`")
    if project.pin:
        fix = f"`mollm unpin {project.id}` when new versions may come again"
        yield notice("pinned", f"project {project.id} is {project.pin}", fix)
    left = progress.count(store, project).left_by_name(project)  # a worker's note may be two minutes old
    living = workers.every(connection)  # if there is none, that is said already
    for name in (name for name, count in left.items() if count and living):
        if not any(workers.alive_on(connection, queue) for queue in (queues.reading(name), "annotate")):
            fix = f"`mollm worker --annotators {name}`, or a worker that serves all"
            yield problem("no-reader", f"project {project.id}: no worker serves {name}, which has texts to read", fix)
    yield fine("reading", f"project {project.id}: {_reading(store, project, left)}")


def _reading(store: Store, project: Project, left: dict[str, int]) -> str:
    count, unreadable = tasks.count(store, project.id)
    if count == unreadable:
        return "none of its tasks can be read" if count else "there are no tasks yet"
    version = f"version {project.published_version} is published" if project.published_version else "no version yet"
    return f"{progress.in_words(left, 'answers to give')}; {version}"
