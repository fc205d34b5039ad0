"""New texts, edited texts and new answers: predicted from the published version's saved state, without a training.

A text is predicted as soon as one annotator has answered, and again with each further answer: nobody waits for an
annotator that is away, or that has a million other texts to read first.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np

from mollm import states
from mollm.errors import ModelFileError
from mollm.records import FittedState, Signals
from mollm.round import run
from mollm_backend.jobs import due, together
from mollm_backend.jobs.pools import known_rows
from mollm_backend.jobs.runtime import Runtime
from mollm_backend.store import CHUNK, batches, changes, events, projects, tasks, versions
from mollm_backend.store.projects import Project
from mollm_backend.store.tasks import Task
from mollm_backend.store.versions import StoredPrediction, Version

# A job ends after this many seconds, as a reading does: a waiting training or reading (of a new task) starts soon.
SECONDS = 1.0


def predict(runtime: Runtime, project: Project, tell: Callable[[int], None] = lambda _count: None) -> None:
    """Predict what has changed since the published version last predicted, in the order of the changes, for a while.
    Tasks that are newer than all that it has predicted do not wait for their turn: somebody may open them next.

    `tell` hears how many tasks are predicted.

    A version whose files cannot be used is marked: `due.training_reason` replaces it, once.
    """
    store, stop, version_id = runtime.store, time.monotonic() + SECONDS, project.published_version
    count, version = 0, due.version_to_predict_with(store, project)
    try:
        saved = _saved(runtime, project, version) if version else {}
        while version is not None and version.id == version_id:
            fresh = versions.newer_tasks(store, project.id, version.id, CHUNK)
            task_ids, last = changes.after(store, project.id, version.changes, CHUNK)
            wanted = list(dict.fromkeys([*fresh, *task_ids]))
            rows = predictions_of(
                runtime, project, version, saved, list(tasks.some(store, project.id, wanted).values())
            )
            _show_edited(runtime, project, version, rows)
            versions.extend(store, project.id, version.id, rows, last)
            count += len({row.task_id for row in rows})
            tell(count)
            if time.monotonic() > stop:
                break
            project = projects.get(store, project.id)  # another worker may have published another version meanwhile
            version = due.version_to_predict_with(store, project)
    except ModelFileError as error:
        versions.mark_unreadable(store, project.id, version_id or "", str(error))
        line = f"{version_id} cannot predict new texts, because its files do not load: {error}"
        events.add(store, "problem", line, project.id)
    if count:
        events.add(store, "info", f"{count} new or changed tasks are predicted with {version_id}", project.id)


def predict_new(runtime: Runtime, project_id: int, rows: Sequence[Task]) -> None:
    """Predict tasks that came just now, as soon as an annotator has answered: somebody may open them next. Where the
    version's files cannot be used nothing is done: `predict` follows, and says so."""
    project = projects.get(runtime.store, project_id)  # a version may have been published since the job began
    version = due.version_to_predict_with(runtime.store, project)
    if version is not None:
        with suppress(ModelFileError):
            found = predictions_of(runtime, project, version, _saved(runtime, project, version), rows)
            versions.extend(runtime.store, project.id, version.id, found)


def _saved(runtime: Runtime, project: Project, version: Version) -> Mapping[str, FittedState]:
    """A version's state. Raises ModelFileError: it does not load here, or was fitted with another text encoder."""
    fitted_with, encoder = version.facts.get("encoder") or "", runtime.encoder()
    if fitted_with and encoder is not None and encoder.fingerprint != fitted_with:
        raise ModelFileError(
            f"{version.id} was fitted with other files of the text encoder {runtime.settings.encoder} than this host "
            "has: it is fitted again."
        )
    where = runtime.version_files.fetch(project.id, version.id)
    if not where.is_dir() and runtime.settings.database_url and not runtime.settings.shared:
        raise ModelFileError(f"{where} is not on this host: set MOLLM_SHARED to a directory that all hosts see.")
    return states.load(where, version.facts.get("files") or "")


def predictions_of(
    runtime: Runtime, project: Project, version: Version, saved: Mapping[str, FittedState], rows: Sequence[Task]
) -> list[StoredPrediction]:
    """What a version says of tasks, in all decisions that it knows; tasks that nobody has answered are left out.

    `saved` is what `states.load` read. An annotator that had said nothing when the version was trained has no part.
    Raises ModelFileError where the version's files do not fit.
    """
    silent, found = set(version.facts.get("silent", [])), list[StoredPrediction]()
    read: dict[str, tuple[Sequence[Task], Signals]] = {}
    for decision in project.decisions:
        prefix = project.prefix_of(decision)
        state = {name.removeprefix(prefix): part for name, part in saved.items() if name.startswith(prefix)}
        heard = np.array([member.fingerprint not in silent for member in project.panel_of(decision)])
        known, signals = known_rows(runtime.store, project, decision, rows, heard)
        if not known or not state:
            continue
        read[decision.key] = known, signals
        probs = run.predict(state, [task.item for task in known], signals, runtime.encoder())
        names = np.array(decision.labels.names)
        for task, row in zip(known, probs, strict=True):
            label, sure = str(names[row.argmax()]), float(row.max())
            found.append(StoredPrediction(task.task_id, task.text_key, label, sure, row, decision=decision.key))
    return list(together.labelled(project, together.saved(project, saved), read, found))


def _show_edited(runtime: Runtime, project: Project, version: Version, fresh: Sequence[StoredPrediction]) -> None:
    """Where people would see an edited task with its old text's label, make a new batch of the open tasks.

    A new one, because Label Studio keeps what a person may have open at this moment. It is made before the predictions
    are stored: after a kill between the two, the same edited texts are found again.
    """
    store, edited = runtime.store, set[int]()
    predicted = versions.of_tasks(store, project.id, version.id, [row.task_id for row in fresh])
    for row in fresh:
        was = predicted.setdefault(row.task_id, {}).get(row.decision)
        if was is not None and was.text_key != row.text_key:
            edited.add(row.task_id)
        predicted[row.task_id][row.decision] = row
    # Several decisions are read one after the other: the last of them brings the new batch.
    edited = {task_id for task_id in edited if len({row.text_key for row in predicted[task_id].values()}) == 1}
    entries = batches.entries(store, project.id, project.batch_version or "") if edited else []
    if any(entry.task_id in edited for entry in entries):
        still_open = batches.open_tasks(store, project.id, project.batch_version or "")
        entries = [entry for entry in entries if entry.task_id in still_open]
    if not any(entry.task_id in edited for entry in entries):
        return
    for rank, entry in enumerate(entries):
        if entry.task_id in edited:
            label, sure = due.shown(project, predicted[entry.task_id])
            entry = replace(entry, version=version.id, label=label, confidence=sure)
        entries[rank] = replace(entry, rank=rank, published_at=None)
    name = batches.next_name(store, project.id, version.id)
    batches.save(store, project.id, name, entries)
    projects.set_batch(store, project.id, version.id, name)
