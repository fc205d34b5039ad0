"""Audits in a running project: how they are drawn, how their tasks come into the batch, and when they end.

Audit tasks are shown without a pre-annotation, at random places among the others, in whatever batch is current. All of
it is decided from the store, so it can be done again after a kill.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mollm.acceptance import bet
from mollm.acceptance.audit import Design
from mollm.acceptance.bet import Bet
from mollm.acceptance.certificate import fixed_number
from mollm.acceptance.certificate import share_of as allowed_by
from mollm.errors import InputError
from mollm.records import FloatArray, IntArray
from mollm.streams import stream
from mollm_backend.labelstudio.label_config import certainty
from mollm_backend.store import Store, audits, batches, events, frozen, projects, versions
from mollm_backend.store.audits import Audit, AuditTask, Part
from mollm_backend.store.batches import StoredEntry
from mollm_backend.store.decisions import Decision
from mollm_backend.store.frozen import Frozen
from mollm_backend.store.projects import Project

SHARE = "audit_share"  # the project option: which share of each batch is drawn at random from the open tasks
NOT_SERVED = "tasks are to be shown without a pre-annotation"
ENDED = "an audit has come to its end"
STANDING_DUE = "the batch lacks its share of tasks drawn at random"
REASONS = NOT_SERVED, ENDED, STANDING_DUE
MOST = 0.5  # of a batch may be drawn at random: with more of it the strategy would hardly choose any more


def design_of(part: Part) -> Design:
    """How a part of an audit that is not whole is drawn and tested."""
    if part.kind == "weighted":
        raise InputError("A whole audit has no test of coverages: it certifies all of its tasks or none.")
    return Design(part.kind, part.labels, part.region, part.start, part.tasks)


def bet_of(part: Part, target: float) -> Bet:
    """How a part of a whole audit is tested."""
    allowed = allowed_by(target) if part.wrong is None else fixed_number(part.wrong)
    return Bet(part.tasks, allowed, part.floor, part.stake)


def _drawn(part: Part, confidence: FloatArray, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
    """(labels,) places of a part whose tasks have this `confidence` (tasks,), and the probability of each."""
    if part.kind == "weighted":
        return bet.draw(confidence, part.labels, rng)
    design = design_of(part)
    return design.draw(rng), np.full(part.labels, design.probability)


def draw(
    rest: Frozen, text_keys: Sequence[str], parts: Sequence[Part], rng: np.random.Generator,
    decisions: Sequence[Decision] | None = None,
) -> list[AuditTask]:  # fmt: skip
    """Draw the audit of each part of `rest`, in the order in which people see them: a random one, and that of the draw
    itself in a whole audit.

    What a task is predicted to be is said of those of the `decisions` (None: all) whose control people see there.
    """
    found, begin = list[tuple[int, int, int, float]](), 0
    for p, part in enumerate(parts):
        drawn = zip(*_drawn(part, rest.confidence[begin : begin + part.tasks], rng), strict=True)
        found += [(p, int(place), begin + int(place), float(probability)) for place, probability in drawn]
        begin += part.tasks
    if all(part.kind != "weighted" for part in parts):
        found = [found[i] for i in rng.permutation(len(found))]
    return [
        AuditTask(
            int(rest.task_ids[n]), p, place, turn, probability, rest.labels_at(n, decisions), text_keys[n],
        )
        for turn, (p, place, n, probability) in enumerate(found)
    ]  # fmt: skip


def share_of(project: Project) -> float:
    """The share of each batch that is drawn at random; 0: none."""
    return min(float(project.options.get(SHARE, 0.0)), MOST)


def reason(store: Store, project: Project) -> str | None:
    """Why `upkeep` has something to do, in words; None where it has not."""
    current = audits.every(store, project.id, status=audits.OPEN)
    if any(_over(store, project, audit) for audit in current):
        return ENDED
    if _lacks_standing(store, project, current):
        return STANDING_DUE
    return NOT_SERVED if _unserved(store, project) else None


def upkeep(store: Store, project: Project, size: int) -> Project:
    """End what is over, draw the standing share of a batch of `size`, and mix open audits into the batch."""
    current = audits.every(store, project.id, status=audits.OPEN)
    for audit in current:
        end = _over(store, project, audit)
        if end is not None:
            audits.end(store, project.id, audit.id, *end)
            if audit.purpose == audits.CERTIFICATE:
                events.add(store, "info", f"{audit.id} is {end[0]}: {end[1]}", project.id)
    if _lacks_standing(store, project, current):
        draw_standing(store, project, size)
    return mix(store, project)


def _over(store: Store, project: Project, audit: Audit) -> tuple[str, str] | None:
    """(status, why) of an open audit that has come to its end; None where it goes on."""
    if audit.label_config_digest != audits.asked_digest(project.decisions):
        return audits.WITHDRAWN, "the labels have changed since it was drawn"
    if audit.purpose == audits.STANDING and audit.version != project.published_version:
        return audits.DECIDED, f"{project.published_version} is published"
    if audit.purpose == audits.CERTIFICATE and audit.target is None and not audits.pending(store, project.id, audit.id):
        return audits.DECIDED, "all its tasks are answered"
    return None


def _lacks_standing(store: Store, project: Project, current: Sequence[Audit]) -> bool:
    drawn = any(audit.purpose == audits.STANDING and audit.version == project.published_version for audit in current)
    if drawn or not share_of(project) or project.published_version is None:
        return False
    return bool(versions.least_certain(store, project.id, project.published_version, "", 1))


def draw_standing(store: Store, project: Project, size: int) -> None:
    """Draw from the open tasks what makes the standing share of a batch of `size` chosen ones; nothing is mixed yet."""
    share = share_of(project)
    if not share:
        return
    rest, keys = frozen.freeze(store, project, certainty)
    apart = audits.set_aside(store, project.id)
    places = np.flatnonzero([task_id not in apart for task_id in rest.task_ids.tolist()])
    K = len(places)
    n = min(round(share / (1 - share) * size), K)
    seed = int(np.random.default_rng().integers(2**31))
    drawn = places[stream(seed, "standing audit").permutation(K)[:n]]
    rows = [
        AuditTask(int(rest.task_ids[i]), 0, turn, turn, n / K, rest.labels_at(i, project.decisions), keys[i])
        for turn, i in enumerate(drawn)
    ]
    part = Part("simple", n, K, 1, K, 0.0)
    audit = Audit(
        project.published_version or "", audits.STANDING, None, 0.95, seed, (part,),
        audits.asked_digest(project.decisions),
    )  # fmt: skip
    audits.make(store, project.id, audit, rest.take(drawn), rows)


def mix(store: Store, project: Project) -> Project:
    """Bring the open audits' tasks into the batch where they are not in it: a new batch of the published version, with
    the old one's open tasks in their order. Returns the project as it is then.

    A new one, because Label Studio keeps what a person may have open at this moment.
    """
    waiting = _unserved(store, project)
    if not waiting:
        return project
    version, apart = project.published_version or "", audits.set_aside(store, project.id)
    still_open = batches.open_tasks(store, project.id, project.batch_version or "") - apart
    before = batches.entries(store, project.id, project.batch_version or "")
    picks = [entry for entry in before if entry.task_id in still_open]
    blank = [StoredEntry(task_id, 0, version, "", 0.0, batches.BLIND) for task_id in waiting]
    name = batches.next_name(store, project.id, version)
    seed = audits.every(store, project.id, status=audits.OPEN)[0].seed
    mixed = _at_random(picks, blank, stream(seed, f"places in {name}"))
    rows = [replace(entry, rank=rank, published_at=None) for rank, entry in enumerate(mixed)]
    batches.save(store, project.id, name, rows)
    projects.set_batch(store, project.id, version, name)
    return projects.get(store, project.id)


def _unserved(store: Store, project: Project) -> list[int]:
    """All pending tasks of open audits, in their order, where the batch lacks some of them; else nothing."""
    waiting = audits.pending(store, project.id)
    if not waiting or project.published_version is None:
        return []
    entries = batches.entries(store, project.id, project.batch_version or "")
    return waiting if set(waiting) - {entry.task_id for entry in entries if entry.blind} else []


def _at_random(picks: list[StoredEntry], blank: list[StoredEntry], rng: np.random.Generator) -> list[StoredEntry]:
    """Both lists in one, each in its own order; every way to mix them is equally likely."""
    total = len(picks) + len(blank)
    chosen: IntArray = np.zeros(total, dtype=np.int64)
    chosen[rng.choice(total, len(blank), replace=False)] = 1
    sources = iter(picks), iter(blank)
    return [next(sources[which]) for which in chosen]


def make(store: Store, project: Project, audit: Audit, rest: Frozen, text_keys: Sequence[str]) -> Audit:
    """Draw an audit and store it, then mix it into the batch. Raises InputError where one is open already."""
    rows = draw(rest, text_keys, audit.parts, stream(audit.seed, "audit"), project.decisions)
    made = audits.make(store, project.id, audit, rest, rows)
    events.add(store, "info", f"{made.id}: people label {len(rows)} tasks without a pre-annotation", project.id)
    mix(store, project)
    return made


def cancel(store: Store, project_id: int) -> Audit:
    """Withdraw the open audit. Raises InputError where there is none."""
    audit = audits.newest(store, project_id, status=audits.OPEN)
    if audit is None:
        raise InputError(f"Project {project_id} has no open audit: there is nothing to cancel.")
    audits.end(store, project_id, audit.id, audits.WITHDRAWN, "cancelled")
    events.add(store, "info", f"{audit.id} is cancelled: its answers are labels like any other", project_id)
    return audit
