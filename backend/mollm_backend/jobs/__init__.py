"""The RQ jobs: ids in, nothing out, each may run again at any time. What comes next is decided in `due`."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable
from typing import Concatenate, ParamSpec

import structlog

from mollm.errors import MollmError, StoreError
from mollm_backend import disk, logs
from mollm_backend.jobs import (
    accepting,
    acting,
    auditing,
    backing_up,
    drifting,
    due,
    failing,
    predicting,
    reading,
    standing,
    tabs,
    training,
)
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.labelstudio import prune as pruning
from mollm_backend.labelstudio import publish as publishing
from mollm_backend.labelstudio import reconcile as reconciling
from mollm_backend.store import StoreAway, answer_errors, batches, certificates, events, projects, signals
from mollm_backend.store.projects import PanelMember, Project
from mollm_backend.store.signals import Cost, SignalRow
from mollm_backend.store.tasks import Task
from mollm_backend.work import progress, queues, split
from mollm_backend.work.actions import Asked
from mollm_backend.work.noting import noted

log = structlog.get_logger()
P = ParamSpec("P")

# An annotate job ends after this many seconds, so that a waiting training starts soon.
ANNOTATE_SECONDS = 10.0
UNEXPECTED = "unexpected"  # what is none of ours begins so, and its traceback is in the log

_installed: list[Runtime] = []


def install(runtime: Runtime) -> None:
    """Give the jobs of this process what they work with (RQ can pass ids only)."""
    _installed[:] = [runtime]


def installed() -> Runtime:
    """What `install` gave. Raises MollmError outside a worker."""
    if not _installed:
        raise MollmError("No runtime is installed in this process: jobs run in a worker (`mollm up` starts one).")
    return _installed[0]


def job(work: Callable[Concatenate[Runtime, P], None]) -> Callable[P, None]:
    """An RQ job: a failure is one line for people, the traceback for the log, and a wait that doubles."""

    @functools.wraps(work)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        runtime = installed()
        identity = queues.job_id(work.__name__, *(str(arg) for arg in args))
        project_id = args[0] if args and isinstance(args[0], int) else None
        try:
            with logs.about(project=project_id, job=work.__name__):
                started = time.monotonic()
                work(runtime, *args, **kwargs)
                log.info("job done", seconds=round(time.monotonic() - started, 1))
            queues.release(runtime.connection, identity)
        except Exception as error:
            seconds, what = queues.hold(runtime.connection, identity), _told(error)
            ours = not what.startswith(UNEXPECTED)
            log.error("job failed", project=project_id, job=identity, error=what, exc_info=None if ours else error)
            with contextlib.suppress(StoreError):  # a full disk takes no line: the log has it
                events.add(
                    runtime.store, "problem", f"{work.__name__}: {what} (next try in {seconds:.0f} s)", project_id
                )
            if not ours:
                raise

    return run


def _told(error: Exception) -> str:
    """What people are told of it."""
    if isinstance(error, queues.TookTooLong):
        return f"it was stopped, because it took too long ({error})"
    if isinstance(error, OSError) and (words := disk.told(error)):
        return words
    if isinstance(error, MollmError):
        return str(error)
    return f"{UNEXPECTED} {type(error).__name__}, see the worker's log"


@job
def reconcile(runtime: Runtime, project_id: int) -> None:
    """Bring the store to what Label Studio says; events were only hints."""
    seen = queues.begin_nudges(runtime.connection, project_id)
    with noted(runtime.connection, project_id, "comparing with Label Studio"):
        report = reconciling.reconcile(runtime.store, runtime.client(), project_id)
    failing.try_some(runtime, runtime.refresh_panel(projects.get(runtime.store, project_id)))
    queues.finish_nudges(runtime.connection, project_id, seen)
    for line in report.lines:
        events.add(runtime.store, "info", line, project_id)
    if report.new_labels or report.changed_labels:
        drifting.check(runtime.store, projects.get(runtime.store, project_id))
    tabs.keep(runtime, project_id)
    events.prune(runtime.store, project_id)


@job
def annotate(runtime: Runtime, project_id: int, annotator: str, part: str = split.WHOLE) -> None:
    """Ask one annotator for the texts (of one part) that it has not answered, chunk by chunk, for some seconds."""
    if not split.in_force(runtime.connection, project_id, annotator, part):
        runtime.concluded.pop(project_id, None)  # the split has changed since: look anew at what is due
        return
    with runtime.reading_lock(project_id, annotator, part) as slots:
        if slots:
            _read(runtime, projects.get(runtime.store, project_id), annotator, part, slots)


def _read(runtime: Runtime, project: Project, annotator: str, part: str, slots: str) -> None:
    """Read of a part what is this job's."""
    stop, mine = time.monotonic() + ANNOTATE_SECONDS, [one for one in project.asked if one.name == annotator]
    found = progress.newest(runtime.store, runtime.connection, project)
    of = found.readable * len(mine)
    done = of - found.left_by_name(project).get(annotator, 0)
    with noted(runtime.connection, project.id, f"reading by {annotator}", of, done=done, in_pieces=True) as note:
        ends = {member: reading.End() for member in mine}
        going = {member: reading.chunks(runtime, project, member, part, slots, ends[member]) for member in mine}
        failed = {member: answer_errors.any_of(runtime.store, member.fingerprint) for member in mine}
        while going and time.monotonic() <= stop:
            for member in list(going):  # in turns: what is asked of the same texts may stand in one request
                chunk = next(going[member], None)
                started = time.monotonic()
                asked = None if chunk is None else _ask(runtime, project, member, chunk[0], failed=failed[member])
                if chunk is None or asked is None:
                    if chunk is not None:
                        note.rest()
                    del going[member]
                    continue
                failed[member] = failed[member] or asked
                rows, took = chunk
                took(time.monotonic() - started)
                note.add(len(rows))
                if ends[member].new:
                    predicting.predict_new(runtime, project.id, rows[: ends[member].new])
                if time.monotonic() > stop:
                    break
    ended = all(end.reached for end in ends.values())
    if ended:
        runtime.concluded.pop(project.id, None)  # what was counted before is over
    if mine:
        _tell_progress(runtime, project, mine[0], part, ended=ended)


def _ask(runtime: Runtime, project: Project, member: PanelMember, rows: list[Task], *, failed: bool) -> bool | None:
    """Ask for one chunk and store the answers. None where the annotator is away: its gap is filled later. Else whether
    any answer failed. `failed`: whether one of this annotator's answers failed before."""
    started = time.monotonic()
    try:
        if failed and answer_errors.failed_before(runtime.store, member.fingerprint, (task.text_key for task in rows)):
            runtime.probe_anew(member)
        answers = runtime.annotator(project, member).annotate([task.text or "" for task in rows])
    except StoreAway:
        raise
    except Exception as error:
        # Whatever is wrong with one LLM (down, model file cut, refused, a mistake in its code) never stops the others.
        signals.mark_absent(runtime.store, member.fingerprint, _told(error))
        events.add(runtime.store, "problem", f"{member.name} is away: {_told(error)}", project.id)
        if _told(error).startswith(UNEXPECTED):
            log.error("annotator failed", annotator=member.name, exc_info=error)
        return None
    found = [
        SignalRow(task.text_key, answer.label_probs, answer.votes, answer.abstained, answer.truncated)
        for task, answer in zip(rows, answers, strict=True)
    ]
    cost = Cost(
        calls=sum(answer.calls for answer in answers), texts=len(rows), seconds=time.monotonic() - started,
        prompt_tokens=sum(answer.prompt_tokens for answer in answers),
        completion_tokens=sum(answer.completion_tokens for answer in answers),
        abstained=sum(answer.abstained for answer in answers), truncated=sum(answer.truncated for answer in answers),
    )  # fmt: skip
    errors = {task.text_key: answer.error for task, answer in zip(rows, answers, strict=True)}
    if failed or any(errors.values()):
        failing.note(runtime, project, member, errors)  # first: after a kill between the two, they are asked again
    signals.save(runtime.store, member, project.id, found, cost)
    return any(errors.values())


def _tell_progress(runtime: Runtime, project: Project, member: PanelMember, part: str, *, ended: bool) -> None:
    if ended:
        counted = due.counted_anew(runtime, project).found
    else:
        counted = progress.newest(runtime.store, runtime.connection, project)
    left = counted.left_by_name(project)[member.name]
    if left and part not in split.parts(1) and not part.startswith("1of"):
        return  # a line for all parts
    what = "tasks" if project.questions == 1 else "answers"
    line = f"{member.name} has read all tasks" if left == 0 else f"{member.name} reads: {left} {what} to go"
    events.add(runtime.store, "info", line, project.id)


@job
def train(runtime: Runtime, project_id: int) -> None:
    """Refit the mixture, retrain the classifier, choose the next batch; only where something is new."""
    with runtime.training_lock(project_id) as mine:
        if not mine:
            return
        project = projects.get(runtime.store, project_id)
        request = queues.training_requested(runtime.connection, project_id)
        covered = queues.nudges_done(runtime.connection, project_id) >= request  # asked before the labels are read
        reason = due.why_train(runtime, project, requested=bool(request))
        if reason is not None:
            with noted(runtime.connection, project_id, "training", alike=True) as note:
                training.train(runtime, project, reason, note.say)
                note.say("working out how right it is")
                standing.note(runtime.store, project_id, runtime.settings.batch_size)
        if request and covered:
            queues.training_answered(runtime.connection, project_id, request)


@job
def predict(runtime: Runtime, project_id: int) -> None:
    """Predict new and changed texts from the published version's saved state, for some seconds."""
    with noted(runtime.connection, project_id, "predicting new texts") as note:
        predicting.predict(runtime, projects.get(runtime.store, project_id), note.reached)


@job
def accept(runtime: Runtime, project_id: int) -> None:
    """Write what a certificate accepts into Label Studio, or take it back: one piece."""
    accepting.accept(runtime, projects.get(runtime.store, project_id))
    if not certificates.unfinished(runtime.store, project_id):
        standing.note(runtime.store, project_id, runtime.settings.batch_size)


@job
def publish(runtime: Runtime, project_id: int) -> None:
    """Bring the current batch into Label Studio, and lengthen it in place before it runs dry."""
    project = projects.get(runtime.store, project_id)
    if project.batch_version is None or project.published_version is None:
        return
    ends = auditing.reason(runtime.store, project) == auditing.ENDED
    project = auditing.upkeep(runtime.store, project, _batch_size(runtime, project))
    if ends:
        standing.note(runtime.store, project_id, runtime.settings.batch_size)
    project = _refill(runtime, project)
    with noted(runtime.connection, project_id, "publishing the next batch"):
        report = publishing.publish_batch(runtime.store, runtime.client(), project_id, project.batch_version or "")
    for line in report.lines:
        events.add(runtime.store, "done", line, project_id)
    tabs.keep(runtime, project_id)


@job
def prune(runtime: Runtime, project_id: int) -> None:
    """Take the predictions of batches that nobody can hold open any more out of Label Studio."""
    with noted(runtime.connection, project_id, "clearing old batches away"):
        lines = pruning.prune(runtime.store, runtime.client(), project_id)
    for line in lines:
        events.add(runtime.store, "info", line, project_id)


@job
def back_up(runtime: Runtime) -> None:
    """Make the backup that is due, check it, and delete the oldest."""
    if backing_up.due(runtime):
        backing_up.back_up(runtime)


def act(project_id: int, action: str, subject: str, user: str) -> None:
    """Do what a person asked for on the page. It is tried once: the page says how it went, and they may ask again."""
    runtime = installed()
    with noted(runtime.connection, project_id, f"{action}, as asked for on the page"):
        acting.act(runtime.store, runtime.connection, Asked(project_id, action, subject, user))


def _batch_size(runtime: Runtime, project: Project) -> int:
    config = runtime.loop_config(project)
    return config.batch_size + config.reserve


def _refill(runtime: Runtime, project: Project) -> Project:
    """Lengthen a batch that runs dry by the least certain of the remaining tasks, under the same version.

    Where a share of each batch is drawn at random, by that too; then it is a new batch.
    """
    reason = due.publishing_reason(runtime.store, project)
    if reason in (None, due.UNPUBLISHED, *auditing.REASONS):
        return project
    size = _batch_size(runtime, project)
    auditing.draw_standing(runtime.store, project, size)
    fresh = due.remaining(runtime.store, project, size, f"refill: {reason}")
    batches.save(runtime.store, project.id, project.batch_version or "", fresh)
    return auditing.mix(runtime.store, project)
