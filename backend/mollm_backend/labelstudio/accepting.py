"""Accepting: write what a certificate accepts into Label Studio as annotations, and take exactly these back.

A label is imported as a prediction whose model version names the certificate, and Label Studio's own action makes
annotations of these predictions: 400 a second, where one by one is 3. The action makes none twice and none on a task
that has an annotation, so that each step may be done again after a kill.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mollm.errors import InputError
from mollm_backend.labelstudio.client import LabelStudioClient
from mollm_backend.labelstudio.errors import LabelStudioError
from mollm_backend.labelstudio.label_config import read, results_of
from mollm_backend.labelstudio.left_to_people import lacks
from mollm_backend.labelstudio.provenance import certified_by, marked
from mollm_backend.labelstudio.reconcile import reconcile
from mollm_backend.store import Store, certificates, in_chunks, tasks
from mollm_backend.store.certificates import KEPT, UNDONE, WAITING, WRITTEN, Accepted, Certificate
from mollm_backend.store.projects import Project

PIECE = 10_000  # tasks of one import: at each, Label Studio recounts all tasks that have predictions
ACTION = 2000  # tasks of one action: its event to us names each of them, and is sent within the call
LOOK = 2000  # tasks that are looked at and then cleared in one call, which leaves out what a person touches meanwhile
FORGET = 10_000  # predictions that are deleted at the end: Label Studio needs 20 s for each thousand, in one call


def write(
    store: Store, client: LabelStudioClient, project: Project, certificate: Certificate,
    tell: Callable[[int], None] = lambda _done: None,
) -> list[str]:  # fmt: skip
    """Write a piece of what waits; returns lines for people. It can be called again, also after a kill.

    `tell` hears how many of the piece are done.

    A task that a person has labelled since is left as it is, and one whose text has changed is not covered. Raises
    LabelStudioError, also where the project asks for several annotations a task, and what `reconcile` raises.
    """
    _done_with_one(client, project.id)
    reconcile(store, client, project.id)  # what people did meanwhile, and what a killed call has written
    waiting = certificates.rows(store, project.id, certificate.id, WAITING, PIECE)
    there = tasks.some(store, project.id, [row.task_id for row in waiting])
    whole = [row for row in waiting if row.task_id in there and there[row.task_id].text_key == row.text_key]
    rows, refused = _predictions(project, certificate, whole)
    if rows:
        held = client.tasks_with_version(project.id, certificate.version, [row["task"] for row in rows])
        imported = client.import_predictions(project.id, [row for row in rows if row["task"] not in held])
        refused |= dict(imported.refused)
        for n, chunk in enumerate(in_chunks([row["task"] for row in rows if row["task"] not in refused], ACTION)):
            client.annotate_from(project.id, certificate.version, chunk)
            tell(n * ACTION + len(chunk))
        reconcile(store, client, project.id)
    certificates.settle(store, project.id)
    left = {row.task_id for row in certificates.rows(store, project.id, certificate.id, WAITING, PIECE)}
    lost = sorted(left & {row.task_id for row in waiting})
    certificates.mark(store, project.id, certificate.id, lost, UNDONE)
    lines = [f"{certificate.id}: {len(waiting) - len(lost)} accepted tasks are done"] if waiting else []
    if lost:
        lines.append(f"{certificate.id}: {len(lost)} tasks are left to people: edited, deleted or not written")
    return lines + [f"task {task_id} was not accepted: {reason}" for task_id, reason in list(refused.items())[:5]]


def _done_with_one(client: LabelStudioClient, project_id: int) -> None:
    """Raise LabelStudioError where an accepted task would not be done: half-labelled, it would be shown first."""
    asked = client.project(project_id).maximum_annotations
    if asked > 1:
        raise LabelStudioError(
            f"project {project_id} asks for {asked} annotations a task: people would be shown each accepted one",
            "set its maximum_annotations to 1, and keep it there; the writing then goes on by itself",
        )


def _predictions(
    project: Project, certificate: Certificate, rows: Sequence[Accepted]
) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """The rows to import, and by task id why one cannot be."""
    found, refused = [], dict[int, str]()
    left = read(project.label_config).left
    for row in rows:
        if lacking := lacks(left, project.decisions, row.labels):
            refused[row.task_id] = f"people must fill {lacking.tag} {lacking.name!r} there"
            continue
        try:
            result = results_of(project.decisions, {key: (label, 1.0) for key, label in row.labels.items()})
        except InputError as error:
            refused[row.task_id] = str(error)
            continue
        if not result:
            refused[row.task_id] = "it has nothing chosen, and an empty annotation could not be told from a person's"
            continue
        marks = marked([{name: part[name] for name in part if name != "score"} for part in result], certificate.version)
        found.append({"task": row.task_id, "model_version": certificate.version, "result": marks})
    return found, refused


def take_back(
    store: Store, client: LabelStudioClient, project: Project, certificate: Certificate,
    tell: Callable[[int], None] = lambda _done: None,
) -> list[str]:  # fmt: skip
    """Take back a piece of what was written, but nothing that a person has touched; returns lines for people.

    It can be called again, also after a kill. Raises LabelStudioError and what `reconcile` raises.
    """
    reconcile(store, client, project.id)
    certificates.settle(store, project.id)
    written = certificates.rows(store, project.id, certificate.id, WRITTEN, PIECE)
    kept = 0
    for n, chunk in enumerate(in_chunks([row.task_id for row in written], LOOK)):
        free = _clear(client, project.id, certificate, chunk)
        certificates.mark(store, project.id, certificate.id, sorted(set(chunk) - free), KEPT)
        kept += len(chunk) - len(free)
        tell(n * LOOK + len(chunk))
    if written:
        reconcile(store, client, project.id)
        certificates.settle(store, project.id)
    left = {row.task_id for row in certificates.rows(store, project.id, certificate.id, WRITTEN, PIECE)}
    gone = len(written) - kept - len(left & {row.task_id for row in written})
    lines = [f"{certificate.id}: {gone} accepted annotations are taken back"] if gone else []
    if kept:
        lines.append(f"{certificate.id}: {kept} stay, because a person has touched them")
    return lines if left else lines + _forget(client, project.id, certificate)


def _clear(client: LabelStudioClient, project_id: int, certificate: Certificate, task_ids: Sequence[int]) -> set[int]:
    """Delete what is still as it was written, and return on which of the tasks that was so.

    Label Studio leaves out a task that a person touches between our look and the deletion: its own stamp is compared.
    """
    stamp = client.last_touch(project_id, task_ids)  # before the look: what comes after it has a later one
    begun = client.tasks_with_drafts(project_id, task_ids)
    held = dict(client.annotations(project_id, task_ids))
    free = {task for task in task_ids if task not in begun and _ours(held.get(task, []), certificate)}
    for user in {_user(held[task][0]) for task in free}:
        mine = sorted(task for task in free if _user(held[task][0]) == user)
        client.delete_annotations(project_id, user, mine, stamp)
    return free


def _ours(held: Sequence[Mapping[str, Any]], certificate: Certificate) -> bool:
    """Whether a task has one annotation alone: this certificate's, untouched."""
    return len(held) == 1 and certified_by(held[0]) == certificate.version


def _user(raw: Mapping[str, Any]) -> int:
    """Under whom an annotation stands."""
    person = raw["completed_by"]
    return int(person["id"] if isinstance(person, Mapping) else person)


def _forget(client: LabelStudioClient, project_id: int, certificate: Certificate) -> list[str]:
    """Take the predictions away that the annotations were made from. No stream shows them, so they may stay."""
    try:
        held = len(client.tasks_with_version(project_id, certificate.version))
        if 0 < held <= FORGET:
            client.delete_version(project_id, certificate.version)
        why = "so many would hold it up for long" if held > FORGET else ""
    except LabelStudioError as error:
        why = str(error)
    return [f"{certificate.id}: its predictions stay in Label Studio: {why}"] if why else []
