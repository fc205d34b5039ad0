"""How right each version is on the tasks that were open then: measured where tasks were drawn at random, else unknown.

What the mixture itself expects (its mean confidence on the open tasks) stands beside it as its own guess.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import numpy as np

from mollm.acceptance.certificate import share_of
from mollm.acceptance.estimate import pooled
from mollm.acceptance.outlook import outlook
from mollm.metrics import Estimate, weighted_share
from mollm.streams import stream
from mollm_backend.jobs import calibration
from mollm_backend.jobs.audit_outlook import accuracy_of
from mollm_backend.labelstudio.label_config import certainty
from mollm_backend.store import Store, audit_answers, audits, certificates, frozen
from mollm_backend.store.audit_answers import Answers
from mollm_backend.store.audits import Audit
from mollm_backend.store.projects import Project

TARGETS = (0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98, 0.99)  # of an acceptance curve: what a team may promise
LABELS = 300  # of the audit that the curve is for: the default of `mollm audit`
AT_MOST = 3  # the open tasks of which an audit takes at most one part: what it takes, it cannot accept unseen


def measured(store: Store, project_id: int, versions: Collection[str]) -> dict[str, dict[str, Any]]:
    """By version, of these: the accuracy on the tasks that were open then, JSON-able, under `of` how it was measured.

    An audit for a certificate says nothing before it is decided. Of two measurements the one of more tasks is told.
    """
    found: dict[str, dict[str, Any]] = {}
    drawn: dict[str, list[Answers]] = {}
    for audit in audits.every(store, project_id):
        if audit.version not in versions or audit.status == audits.WITHDRAWN:
            continue
        if audit.purpose == audits.STANDING:
            drawn.setdefault(audit.version, []).append(audit_answers.of(store, project_id, audit))
        elif audit.target is None or audit.status == audits.DECIDED:
            figure = accuracy_of(store, project_id, audit)
            if figure is not None and figure.estimate is not None:
                _keep(found, audit.version, _told(figure.estimate, figure.n, audit.id))
    for version, answers in drawn.items():
        # Only what is answered in turn: which tasks people take first may have to do with how hard they are.
        figure = pooled([row.right[: row.in_turn] for row in answers])
        if figure.estimate is not None:
            _keep(found, version, _told(figure.estimate, figure.n, "tasks drawn at random"))
    return found


def _keep(found: dict[str, dict[str, Any]], version: str, told: dict[str, Any]) -> None:
    if version not in found or told["n"] >= found[version]["n"]:
        found[version] = told


def _told(figure: Estimate, n: int, of: str) -> dict[str, Any]:
    return {"value": figure.value, "low": figure.low, "high": figure.high, "n": n, "of": of}


def of_audit(store: Store, project: Project) -> dict[str, Any] | None:
    """What the last decided audit says beside each class: `reliability` (bins), and the `baseline` where there is one
    decision; None without any answer. Whole audits measure nothing."""
    audit = audits.measuring(store, project.id)
    if audit is None:
        return None
    answers = audit_answers.of(store, project.id, audit)
    if not len(answers.right):
        return None
    weight = 1 / answers.probability
    return {
        "of": audit.id, "version": audit.version, "n": len(answers.right),
        "reliability": calibration.bins(answers.confidence, answers.right.astype(np.float64), weight),
        "baseline": _baseline(audit, answers, project) if len(project.decisions) == 1 else None,
    }  # fmt: skip


def _baseline(audit: Audit, answers: Answers, project: Project) -> dict[str, Any] | None:
    """What always saying the most frequent label would get right of the audited tasks' pool."""
    key = project.decision.key
    said = np.array([(row or {}).get(key, "") for row in answers.said])
    weight = 1 / answers.probability
    totals = {name: float(weight[said == name].sum()) for name in project.decision.labels.names}
    label = max(totals, key=lambda name: totals[name])
    if not totals[label]:
        return None
    return {"label": label} | _told(weighted_share((said == label).astype(np.float64), weight), len(said), audit.id)


def acceptance(store: Store, project: Project) -> dict[str, Any] | None:
    """What share of the open tasks an audit of `labels` would likely certify at each target, JSON-able; and what was
    certified. None where nothing is open or predicted.

    `points` hold the expected `share`, the central 80 % of the simulated audits, and the chance that it certifies
    nothing. `guess` is the mean confidence on the `open` tasks: the mixture's own guess of its accuracy there.
    """
    if project.published_version is None:
        return None
    rest, _keys = frozen.freeze(store, project, certainty)
    K = len(rest.task_ids)
    certified = _certified(store, project.id)
    if not K:
        return None if not certified else {"open": 0, "labels": 0, "guess": None, "points": [],
                                           "certified": certified}  # fmt: skip
    labels, points = min(LABELS, max(1, K // AT_MOST)), list[dict[str, Any]]()
    for target in TARGETS:
        found = outlook(rest.confidence, labels, share_of(target), 0.05, rng=stream(0, "acceptance curve", [labels]))
        points.append({"target": target, "share": found.share, "low": found.low, "high": found.high,
                       "refused": found.refused})  # fmt: skip
    return {"version": project.published_version, "open": K, "labels": labels, "points": points,
            "guess": float(rest.confidence.mean()), "certified": certified}  # fmt: skip


def _certified(store: Store, project_id: int) -> list[dict[str, Any]]:
    """The certificates in force as points of the curve: the share of the tasks open then that each covers."""
    sizes = {audit.id: sum(part.tasks for part in audit.parts) for audit in audits.every(store, project_id)}
    return [
        {"id": row.id, "target": row.target, "share": row.tasks / sizes[row.audit_id], "n": row.audits,
         "of": sizes[row.audit_id], "confidence": row.confidence}
        for row in certificates.every(store, project_id, status=certificates.GRANTED) if sizes.get(row.audit_id)
    ]  # fmt: skip
