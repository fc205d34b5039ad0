"""What the store lacks: the one place that decides which job comes next. Jobs never start one another."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from mollm.config import refit_after
from mollm.errors import MollmError
from mollm_backend import logs
from mollm_backend.jobs import auditing, backing_up
from mollm_backend.jobs.runtime import Conclusion, Counted, Job, Runtime
from mollm_backend.labelstudio.label_config import joint, words_of
from mollm_backend.labelstudio.prune import prunable
from mollm_backend.store import (
    Store,
    audits,
    batches,
    certificates,
    changes,
    events,
    labels,
    projects,
    revisions,
    signals,
    tasks,
    versions,
)  # fmt: skip
from mollm_backend.store.batches import StoredEntry
from mollm_backend.store.projects import Project
from mollm_backend.store.versions import StoredPrediction, Version
from mollm_backend.work import asked, budget, progress, queues, split, workers
from mollm_backend.work.progress import Progress

# A pool that is still being read gets its first version at this size, so that people can begin while it is read. A new
# one comes each time it has doubled: then all trainings together cost at most twice as much as the last one.
FIRST_POOL = 200
# An edited text sends no event: it is found within this time.
RECONCILE_EVERY = timedelta(minutes=10)
# The labels of a session that ended below the threshold are learned once people rest so long.
PEOPLE_REST = timedelta(minutes=10)
UNPUBLISHED = "the batch is not published yet"
# Of a worker's time, counting what is left may take so much while only answers came: a million tasks take a second.
COUNTING = 0.05
# Seconds: where counting takes longer, all is not counted anew for few new tasks, and an edited text may wait.
LONG, FEW = 0.1, 1_000
# Seconds. On the full hour all is counted anew: a budget's day may begin, an old batch may go, and what was written to
# the database by hand is seen.
COUNT_ANEW = 3600.0


def sweep(runtime: Runtime, *, reconcile: bool = False) -> None:
    """Queue all that is missing in every connected project. `reconcile`: whatever the clock says.

    What is wrong with one project (options that cannot be used) never stops the others.
    """
    for project in projects.every(runtime.store):
        if project.connected:
            try:
                with logs.about(project=project.id):
                    sweep_project(runtime, project, reconcile=reconcile)
            except MollmError as error:
                events.add_once(runtime.store, "problem", f"nothing is queued: {error}", project.id)


def back_up(runtime: Runtime) -> None:
    """Queue the backup that is due."""
    if backing_up.due(runtime):
        _enqueue(runtime, "reconcile", "back_up")


def sweep_project(runtime: Runtime, project: Project, *, reconcile: bool = False) -> None:
    """Enqueue what this project lacks: a look at events, texts to read, a training, predictions, a batch, a clearing
    away.
    """
    if reconcile or _unseen_events(runtime, project) or _stale(project):
        _enqueue(runtime, "reconcile", "reconcile", project.id)
    requested = bool(queues.training_requested(runtime.connection, project.id))
    counters = revisions.of_project(runtime.store, project.id, (member.fingerprint for member in project.panel))
    seen = replace(project, reconciled_at="", attention="", title=""), counters, requested
    last = runtime.concluded.get(project.id)
    if last is None or last.seen != seen or time.time() >= last.until:
        # The clock is read first: what it reaches meanwhile is for the next sweep.
        until, (found, counted_until) = _until(runtime.store, project), _counted(runtime, project, counters)
        until = min(until, time.time() + counted_until - time.monotonic())
        last = Conclusion(seen, until, found, _lacks(runtime, project, found, requested))
    progress.note(runtime.connection, project, last.found)
    jobs = []
    for queue, name, args in last.jobs:  # each is queued as it is found, whatever stops the search for more
        _enqueue(runtime, queue, name, *args)
        jobs.append((queue, name, args))
    runtime.concluded[project.id] = replace(last, jobs=tuple(jobs))
    if requested and not any(name == "train" for _, name, _ in jobs):
        _refuse_training(runtime, project)


def _counted(runtime: Runtime, project: Project, counters: Mapping[str, int]) -> tuple[Progress, float]:
    """How far the reading is, and up to when that will do (by the monotonic clock): as it was a moment ago, where
    counting takes long and only answers came since, or where it takes very long and only answers and few new tasks."""
    last = runtime.counted.get(project.id)
    if last is not None and time.monotonic() < last.until and last.panel == project.panel:
        changed = {name for name in counters if last.counters.get(name) != counters[name]}
        if not changed:
            return last.found, math.inf
        if changed.isdisjoint({revisions.of_work(project.id), revisions.of_labels(project.id)}):
            return last.found, last.until
        if last.seconds > LONG and revisions.of_labels(project.id) not in changed:
            newer = progress.count(runtime.store, project, after=last.newest)
            if newer.tasks <= FEW:
                return last.found.plus(newer), last.until
    return counted_anew(runtime, project).found, math.inf


def counted_anew(runtime: Runtime, project: Project) -> Counted:
    """Count how far the reading is, and keep it for the next sweeps."""
    started, newest = time.monotonic(), tasks.newest_id(runtime.store, project.id)
    counters = revisions.of_project(runtime.store, project.id, (member.fingerprint for member in project.panel))
    found, ended = progress.count(runtime.store, project), time.monotonic()
    seconds = ended - started
    counted = Counted(found, newest, project.panel, counters, seconds, ended + seconds / COUNTING)
    runtime.counted[project.id] = counted
    return counted


def _refuse_training(runtime: Runtime, project: Project) -> None:
    """Answer a request for a training from which nothing can be learned: it would fire at the next label, unasked."""
    request = queues.training_requested(runtime.connection, project.id)
    newest = versions.newest(runtime.store, project.id)
    taken_in = queues.nudges_done(runtime.connection, project.id) >= request
    if request and taken_in and newest is not None and newest.facts.get("panel") == project.fingerprints:
        why = asked.nothing_to_learn(runtime.store, project)
        if why:
            queues.training_answered(runtime.connection, project.id, request)
            events.add(runtime.store, "info", f"no training, although one was asked for. {why}", project.id)


def _lacks(runtime: Runtime, project: Project, found: Progress, requested: bool) -> Iterator[Job]:
    """The jobs that would bring the store to where nothing is missing."""
    yield from _readings(runtime, project, found)
    if why_train(runtime, project, found, requested=requested) is not None:
        yield "train", "train", (project.id,)
    if predicting_reason(runtime.store, project) is not None:
        # Not before reconciliation and reading for long: the worker takes this queue and a reading in turns.
        yield "reconcile", "predict", (project.id,)
    if project.batch_version and publishing_reason(runtime.store, project) is not None:
        yield "publish", "publish", (project.id,)
    if certificates.unfinished(runtime.store, project.id):
        yield "reconcile", "accept", (project.id,)
    current = {project.batch_version or "", project.published_version or ""}
    if prunable(runtime.store, project.id, current, datetime.now(UTC)):
        yield "reconcile", "prune", (project.id,)  # any worker that talks to Label Studio; it is short


def _until(store: Store, project: Project) -> float:
    """When the clock alone may change what is due (seconds since the epoch), if nothing is written."""
    now, panel = time.time(), {member.fingerprint for member in project.panel}
    moments = [away.retry_at for name, away in signals.absent(store).items() if name in panel]
    stamps = labels.totals(store, project.id)[2], versions.newest_at(store, project.id)
    if all(stamps):
        moments.append((max(map(_moment, stamps)) + PEOPLE_REST).timestamp())
    return min([(now // COUNT_ANEW + 1) * COUNT_ANEW, *(moment for moment in moments if moment > now)])


def _readings(runtime: Runtime, project: Project, found: Progress) -> Iterator[Job]:
    """The jobs for each annotator that has not read all; on one card, one model after the other."""
    away = signals.absent(runtime.store)
    turns: dict[str, str] = {}  # each swap on a card loads a model anew: the next waits until this one is done
    owed: dict[str, set[str]] = {}  # by name, over all decisions, the slots in which texts are left
    for member in project.panel:
        waits = member.fingerprint in away and away[member.fingerprint].retry_at > time.time()
        if waits or not found.left[member.fingerprint]:
            continue
        if budget.rests(runtime.store, project):
            break
        card, model = runtime.card(member)
        if not card or turns.setdefault(card, model) == model:
            owed.setdefault(member.name, set()).update(found.slots[member.fingerprint])
    for name, slots in owed.items():
        yield from _parts(runtime, project.id, name, slots)


def _parts(runtime: Runtime, project_id: int, annotator: str, slots: set[str]) -> Iterator[Job]:
    """The jobs of one reading: a part for each worker that serves it, where texts of that part are left."""
    queue, size = queues.reading(annotator), split.wanted(runtime.connection, annotator)
    if not workers.alive_on(runtime.connection, queue):
        queue = "annotate"  # nobody serves it: any worker that serves all takes it, and says what is wrong
    if split.agree(runtime.connection, project_id, annotator, size):  # else jobs of the split before end first
        for part in split.parts(size):
            if slots.intersection(split.slots(part)):
                yield queue, "annotate", (project_id, annotator, *filter(None, [part]))


def _enqueue(runtime: Runtime, queue: str, name: str, *args: int | str) -> None:
    if not queues.held(runtime.connection, queues.job_id(name, *args)):
        queues.enqueue(runtime.connection, queue, name, *args)


def _unseen_events(runtime: Runtime, project: Project) -> bool:
    return queues.nudges(runtime.connection, project.id) != queues.nudges_done(runtime.connection, project.id)


def _stale(project: Project) -> bool:
    if not project.reconciled_at:
        return True
    return datetime.now(UTC) - datetime.fromisoformat(project.reconciled_at) > RECONCILE_EVERY


def why_train(
    runtime: Runtime, project: Project, found: Progress | None = None, *, requested: bool | None = None
) -> str | None:
    """`training_reason` with the project's own settings and requests."""
    if requested is None:
        requested = bool(queues.training_requested(runtime.connection, project.id))
    refit_every = runtime.loop_config(project).refit_every
    return training_reason(runtime.store, project, refit_every, requested=requested, found=found)


def publishing_reason(store: Store, project: Project) -> str | None:
    """Why Label Studio must be told of the batch now: it does not hold all of it, or the batch runs dry."""
    if audit := auditing.reason(store, project):
        return audit
    entries = batches.entries(store, project.id, project.batch_version or "")
    if any(entry.published_at is None for entry in entries):
        return UNPUBLISHED
    open_now = len(batches.open_tasks(store, project.id, project.batch_version or ""))
    people = labels.totals(store, project.id)[1]
    if open_now < max(len(entries) / 3, 5 * people) and remaining(store, project, 1):
        return f"only {open_now} tasks of the batch are still open"
    return None


def remaining(store: Store, project: Project, limit: int, reason: str = "") -> list[StoredEntry]:
    """Up to `limit` entries that would lengthen the batch: the published version's open tasks, least certain first."""
    version, batch = project.published_version or "", project.batch_version or ""
    chosen = versions.least_certain(store, project.id, version, batch, limit)
    predicted = versions.of_tasks(store, project.id, version, chosen)
    first = 1 + max((entry.rank for entry in batches.entries(store, project.id, batch)), default=-1)
    return [
        StoredEntry(task_id, rank, version, *shown(project, predicted[task_id]), reason)
        for rank, task_id in enumerate(chosen, first)
    ]


def shown(project: Project, predicted: Mapping[str, StoredPrediction]) -> tuple[str, float]:
    """What a batch shows of a task: its label (in words where there are several decisions), and how sure that is."""
    rows = {decision.key: predicted[decision.key] for decision in project.decisions if decision.key in predicted}
    words = words_of(project.decisions, {key: row.label for key, row in rows.items()})
    return words, joint(project.decisions, {key: (row.label, row.confidence) for key, row in rows.items()})


def version_to_predict_with(store: Store, project: Project) -> Version | None:
    """The published version, where it was made for this panel, its files load, and something changed since."""
    seen, unreadable = versions.standing(store, project)
    if unreadable or changes.newest(store, project.id) <= seen:
        return None
    version = versions.find(store, project.id, project.published_version)
    return version if version is not None and version.facts.get("panel") == project.fingerprints else None


def predicting_reason(store: Store, project: Project) -> str | None:
    """Why something must be predicted now, in words; None where nothing need be."""
    version = version_to_predict_with(store, project)
    return None if version is None else f"texts or answers came since {version.id} last predicted"


def training_reason(
    store: Store, project: Project, refit_every: int, *, requested: bool = False, found: Progress | None = None
) -> str | None:
    """Why the mixture should be refitted now, in words; None where it need not. `found`: the reading, if counted.

    New and edited texts, answers and deletions are no reason by themselves: `predicting` sees to them.
    """
    newest = versions.newest(store, project.id)
    found = found or progress.count(store, project)
    if found.answered == 0:
        return None
    away = signals.absent(store)
    idle = not any(left for fingerprint, left in found.left.items() if fingerprint not in away)
    idle = idle or bool(budget.of(store, project).paused)  # all that will be read today is read
    if newest is None or newest.facts.get("panel") != project.fingerprints:
        return "first version" if idle or found.answered >= FIRST_POOL * len(found.left) else None
    if versions.standing(store, project)[1]:
        published = versions.find(store, project.id, project.published_version)
        tried = published is None or published.id == newest.facts.get("replaces")  # a pin may hold the successor back
        if published is not None and not tried and "replaces" not in published.facts:
            return f"the files of {published.id} do not load"
    before = int(newest.facts.get("read", newest.facts.get("pool", 0)))  # 0.2.0 did not note `read`
    if found.read >= 2 * before:
        return f"the pool has doubled: {found.read} tasks are read, {before} before"
    if idle and set(newest.facts.get("silent", [])) - set(found.silent):
        return "an annotator answers now that had said nothing before"
    changed = asked.changed(store, project, newest)
    rows = audits.usable(store, project.id) if changed else []
    human = [labels.human_labels(rows, decision.key) for decision in project.decisions]
    if changed >= refit_after(max(map(len, human), default=0), refit_every):
        return f"{changed} human labels are new or changed"
    if requested and changed:
        return "training was asked for"
    made = [] if _moment(newest.created_at) > datetime.now(UTC) else [newest.created_at]  # a clock that was ahead
    if changed and _people_rest([*made, *(row.updated_at for row in labels.of_people(rows))]):
        return f"people rest, and {changed} of their labels are new or changed"
    return None


def _people_rest(moments: Sequence[str]) -> bool:
    """Whether the last version and the last annotation are a while ago; what has no time counts as just now."""
    if not all(moments):
        return False
    return datetime.now(UTC) - max(map(_moment, moments)) > PEOPLE_REST


def _moment(stamp: str) -> datetime:
    """A stamp of the store or of Label Studio; without a time zone it is UTC. What is no time counts as just now."""
    try:
        moment = datetime.fromisoformat(stamp)
    except ValueError:
        return datetime.now(UTC)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
