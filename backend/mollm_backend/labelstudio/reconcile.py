"""Reconciliation: bring the store to exactly what Label Studio says. Events are hints; this is the truth.

A pass first collects what is different (only new tasks are written), asks whether too much would vanish, and writes.
A task's stamp is written last, so that a pass that was killed is simply done again where it had not come to its end.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from mollm.errors import ConfigError, InputError
from mollm.records import Provenance, digest
from mollm_backend.labelstudio import label_config
from mollm_backend.labelstudio.bulk import with_versions
from mollm_backend.labelstudio.client import LabelStudioClient, RemoteProject, RemoteTask
from mollm_backend.labelstudio.config_change import Change, change_between
from mollm_backend.labelstudio.errors import LabelsWouldVanish, OtherProject
from mollm_backend.labelstudio.provenance import annotation_of
from mollm_backend.labelstudio.task_text import text_of
from mollm_backend.store import BLOCK, Store, certificates, in_chunks, labels, now, projects, tasks
from mollm_backend.store.labels import Annotation
from mollm_backend.store.projects import Project
from mollm_backend.store.tasks import Task

Known = Mapping[int, list[Annotation]]  # an annotation's rows in the store, by its number

LOSS_SHARE = 0.2  # of all labels; more than this (and at least LOSS_FLOOR) never goes without a person's word
LOSS_FLOOR = 5  # labels: in a small project 20 % may be a single label that somebody deleted
_OVERLAP = timedelta(seconds=60)  # a pass looks back so far behind the last one: clocks and late commits differ
_LOOK_TWICE = 50  # this many missing tasks are asked for one by one; more are listed a second time


@dataclass(frozen=True)
class ReconcileReport:
    """What a pass changed; `lines` say it to people."""

    new_tasks: int
    changed_tasks: int
    deleted_tasks: int
    new_labels: int
    changed_labels: int
    deleted_labels: int
    lines: tuple[str, ...]


@dataclass
class _Difference:
    """What a pass would write."""

    new_tasks: int = 0
    unreadable: int = 0
    new: list[Task] = field(default_factory=list)  # not written yet; new tasks are written block by block
    changed: list[Task] = field(default_factory=list)
    stamps: dict[int, str] = field(default_factory=dict)
    look_at: dict[int, int] = field(default_factory=dict)  # task to how many annotations the listing says it has
    unsure: list[int] = field(default_factory=list)  # tasks of which the export holds fewer than that
    vanished: list[int] = field(default_factory=list)
    annotations: list[list[Annotation]] = field(default_factory=list)  # each with its rows, one a decision
    known_labels: int = 0  # of `annotations`, how many the store had already
    deleted: list[int] = field(default_factory=list)
    unknown_versions: int = 0  # of bulk accepted labels


def reconcile(
    store: Store, client: LabelStudioClient, project_id: int, *, accept_loss: bool = False, full: bool = False
) -> ReconcileReport:
    """Bring tasks and annotations of a project to what the API says.

    Cheap when little changed: only tasks that Label Studio touched since the last pass are read, and a complete
    listing follows only where its own counts do not agree with the store (or on `full`). Tombstones, never deletes.
    Raises OtherProject, LabelsWouldVanish (until `accept_loss`), ConfigError, LabelStudioError; each but the last is
    also written to the project's `attention`.
    """
    stored = projects.get(store, project_id)
    remote = client.project(project_id)
    try:
        _check_same(stored, remote, client.url)
        change = _config_change(stored, remote)
        changed = bool(change.lines)
        project = replace(stored, decisions=change.decisions)
        since = "" if full or changed else _last_stamp(store, stored)
        passes = [_pass(store, client, project, since=since, change=change, accept_loss=accept_loss)]
        if since and not _counts_agree(store, remote):
            passes.append(_pass(store, client, project, accept_loss=accept_loss))
    except (OtherProject, LabelsWouldVanish, ConfigError) as problem:
        projects.change(store, project_id, attention=str(problem))
        raise
    if any(found.annotations or found.deleted for found in passes):
        certificates.settle(store, project_id)
    if changed:  # only now: a pass that was killed must see the change again
        parsed = [decision.as_json() for decision in project.decisions]
        projects.change(store, project_id, label_config=remote.label_config, decisions=parsed)
    projects.change(store, project_id, reconciled_at=now(), attention="", title=remote.title)
    return _report(passes, change.lines)


def _check_same(project: Project, remote: RemoteProject, url: str) -> None:
    if project.url == url and project.ls_created_at == remote.created_at:
        return
    raise OtherProject(
        f"Project {project.id} at {url} (made {remote.created_at}) is not the one that was connected "
        f"({project.url}, made {project.ls_created_at}): a restored backup or another server. Nothing was changed. "
        "Correct LABEL_STUDIO_URL; after a move of the same server run `mollm connect` again; for another Label Studio "
        "use another MOLLM_HOME."
    )


def _config_change(project: Project, remote: RemoteProject) -> Change:
    """What the label config asks for now, and what of it is new. Fingerprints make old signals invalid."""
    if project.label_config == remote.label_config:
        return Change(project.decisions)
    return change_between(project.decisions, label_config.parse(remote.label_config))


def _last_stamp(store: Store, project: Project) -> str:
    """Up to where, on Label Studio's clock, all is taken in; "" asks for a complete listing."""
    newest = tasks.last_stamp(store, project.id)
    if not project.reconciled_at or not newest:
        return ""
    # A transaction may become visible after a later one: look back over what could still have been open.
    since = datetime.fromisoformat(newest).astimezone(UTC) - _OVERLAP
    return since.strftime("%Y-%m-%dT%H:%M:%S.%fZ")  # Label Studio's filters read no other form


def _counts_agree(store: Store, remote: RemoteProject) -> bool:
    here = tasks.count(store, remote.id)[0], labels.totals(store, remote.id)[0]
    return here == (remote.tasks, remote.annotations + remote.skips)


def _pass(
    store: Store, client: LabelStudioClient, project: Project, *,
    since: str = "", change: Change | None = None, accept_loss: bool = False,
) -> _Difference:  # fmt: skip
    """Collect, ask, write. `since` "" is a complete listing, which alone may say that a task is gone."""
    moved, everything = dict(change.moved) if change else {}, bool(change and change.lines)
    found, seen = _Difference(), set[int]()
    whole = None if since else _stored(store, project.id, moved)
    known: dict[int, list[Annotation]] = dict(whole.known) if whole else {}
    for block in in_chunks(client.tasks(project.id, since=since), BLOCK):
        ids = [remote.id for remote in block]
        here = whole or _stored(store, project.id, moved, ids)
        known.update({} if whole else here.known)
        _compare_tasks(project, block, here, found, everything)
        _write_new(store, project.id, found)
        seen.update(ids)
    if whole:
        found.vanished = _really_gone(client, project.id, set(whole.marks) - seen)
    _compare_annotations(client, project, known, found)
    if not accept_loss:
        _guard(store, project, known, found, whole is not None)
    projects.rename_decisions(store, project.id, moved)
    _write(store, project.id, found)
    return found


@dataclass(frozen=True)
class _Stored:
    """What the store holds of some tasks, or of all: marks, annotations, and how many of these each task has."""

    marks: Mapping[int, tuple[str, str]]
    known: Known
    counts: Mapping[int, int]


def _stored(store: Store, project_id: int, moved: Mapping[str, str], task_ids: Sequence[int] | None = None) -> _Stored:
    rows = labels.every(store, project_id, task_ids)
    if moved:
        rows = [replace(row, decision=moved.get(row.decision, row.decision)) for row in rows]
    known = labels.by_annotation(rows)
    return _Stored(tasks.marks(store, project_id, task_ids), known, Counter(row[0].task_id for row in known.values()))


def _compare_tasks(
    project: Project, listing: Iterable[RemoteTask], stored: _Stored, found: _Difference, everything: bool
) -> None:
    for remote in listing:
        mark, count = stored.marks.get(remote.id), stored.counts.get(remote.id, 0)
        data_hash = digest(json.dumps(remote.data, sort_keys=True))
        if mark is None:
            found.new.append(_task(remote, data_hash, project))
        elif everything or mark[0] != data_hash:
            found.changed.append(_task(remote, data_hash, project))
        if everything or mark != (data_hash, remote.updated_at) or count != remote.annotations:
            found.stamps[remote.id] = remote.updated_at
            # The listing's count is Label Studio's own counter, which an import of predictions at the same moment may
            # set back: a known task that was touched is looked at whatever it says.
            if remote.annotations or count or mark is not None:
                found.look_at[remote.id] = remote.annotations


def _write_new(store: Store, project_id: int, found: _Difference) -> None:
    """New tasks take nothing away from anybody: they need not wait in memory for the pass's end."""
    tasks.upsert(store, project_id, found.new)
    found.new_tasks += len(found.new)
    found.unreadable += sum(task.text is None for task in found.new)
    found.new.clear()


def _task(remote: RemoteTask, data_hash: str, project: Project) -> Task:
    try:
        return Task(remote.id, data_hash, text_of(remote.data, project.decisions))
    except InputError as error:
        return Task(remote.id, data_hash, None, str(error))


def _really_gone(client: LabelStudioClient, project_id: int, missing: set[int]) -> list[int]:
    """Tasks of which Label Studio says a second time that they are not there."""
    if len(missing) <= _LOOK_TWICE:
        return sorted(task_id for task_id in missing if not client.task_exists(task_id))
    return sorted(missing - {remote.id for remote in client.tasks(project_id)})


def _compare_annotations(client: LabelStudioClient, project: Project, known: Known, found: _Difference) -> None:
    predictions: dict[int, Mapping[str, Any] | None] = {}

    def look_up(prediction_id: int) -> Mapping[str, Any] | None:
        if prediction_id not in predictions:
            predictions[prediction_id] = client.prediction(prediction_id)
        return predictions[prediction_id]

    there, exported = set[int](), Counter[int]()
    for task_id, rows in client.annotations(project.id, list(found.look_at)):
        exported[task_id] = len(rows)
        for raw in rows:
            before = known.get(int(raw["id"]), [])
            there.add(int(raw["id"]))
            after = annotation_of(raw, project.decisions, before, look_up)
            if _content(before) != _content(after):
                found.annotations.append(after)
                found.known_labels += bool(before)
    filled, found.unknown_versions = with_versions(
        [row for group in found.annotations for row in group],
        look_up,
        lambda tasks: client.versions_of(project.id, tasks),
    )
    found.annotations = list(labels.by_annotation(filled).values())
    # Half an answer, or a counter that is wrong: only where Label Studio says it twice is a label gone.
    short = [task_id for task_id, count in found.look_at.items() if exported[task_id] < count]
    said_again = {task_id: client.annotation_ids(task_id) for task_id in short[:_LOOK_TWICE]}
    found.unsure = [task_id for task_id in short if not said_again.get(task_id, {0}) <= there]
    looked_at, gone = set(found.look_at) - set(found.unsure), set(found.vanished)
    found.deleted = [
        number for number, (row, *_) in known.items()
        if row.task_id in gone or (row.task_id in looked_at and number not in there)
    ]  # fmt: skip


def _content(rows: Iterable[Annotation]) -> set[tuple[object, ...]]:
    return {(row.decision, row.updated_at, row.label, row.problem, row.was_cancelled, row.user_id) for row in rows}


def _guard(store: Store, project: Project, known: Known, found: _Difference, complete: bool) -> None:
    """Raises LabelsWouldVanish where more labels would go than may go without a person's word.

    A label of a decision that is not asked any more went with the label config, by a person's word. `complete`: `known`
    are all annotations.
    """
    having = _having(project, (row for group in known.values() for row in group))
    after = [row for group in found.annotations for row in group]
    unreadable = {(row.annotation_id, row.decision) for row in after if row.label is None and not row.was_cancelled}
    deleted = set(found.deleted)
    lost = sum(pair in unreadable or pair[0] in deleted for pair in having)
    if lost < LOSS_FLOOR:
        return
    count = len(having if complete else _having(project, labels.every(store, project.id)))
    if lost <= LOSS_SHARE * count:
        return
    raise LabelsWouldVanish(
        f"{lost} of {count} labels are no longer in Label Studio ({len(found.vanished)} tasks are gone). "
        "Nothing was changed. If that is meant, run `mollm doctor --accept-loss`; if not, restore them there first."
    )


def _having(project: Project, rows: Iterable[Annotation]) -> set[tuple[int, str]]:
    """People's labels of what is asked, by annotation and decision."""
    asked = {decision.key for decision in project.decisions}
    people = (row for row in rows if row.label is not None and row.provenance is not Provenance.CERTIFIED)
    return {(row.annotation_id, row.decision) for row in people if row.decision in asked}


def _write(store: Store, project_id: int, found: _Difference) -> None:
    tasks.upsert(store, project_id, found.changed)
    labels.upsert(store, project_id, [row for group in found.annotations for row in group])
    labels.tombstone(store, project_id, found.deleted)
    tasks.tombstone(store, project_id, found.vanished)
    unsure = set(found.unsure)  # without a stamp, so that the next pass looks at them again
    tasks.stamp(store, project_id, {task_id: at for task_id, at in found.stamps.items() if task_id not in unsure})


def _report(passes: Sequence[_Difference], lines: Sequence[str]) -> ReconcileReport:
    counts = {
        "new_tasks": sum(found.new_tasks for found in passes),
        "changed_tasks": sum(len(found.changed) for found in passes),
        "deleted_tasks": sum(len(found.vanished) for found in passes),
        "new_labels": sum(len(found.annotations) - found.known_labels for found in passes),
        "changed_labels": sum(found.known_labels for found in passes),
        "deleted_labels": sum(len(found.deleted) for found in passes),
    }
    parts = [f"{count} {what.replace('_', ' ')}" for what, count in counts.items() if count]
    unreadable = sum(found.unreadable for found in passes)
    if unreadable:
        parts.append(f"{unreadable} of the new tasks cannot be read (`mollm explain` says why)")
    unsure = sum(len(found.unsure) for found in passes)
    if unsure:
        parts.append(f"{unsure} tasks were listed with more annotations than came with them: looked at again next time")
    unknown = sum(found.unknown_versions for found in passes)
    if unknown:
        parts.append(f"of {unknown} bulk accepted labels it cannot be told which version they were made from")
    summary = [f"from Label Studio: {', '.join(parts)}"] if parts else []
    return ReconcileReport(**counts, lines=(*lines, *summary))
