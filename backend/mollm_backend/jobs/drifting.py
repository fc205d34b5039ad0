"""Withdraw a certificate, aloud, when tasks drawn at random later speak against it (`mollm.acceptance.drift`)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mollm.acceptance.drift import ALARM, evidence
from mollm.records import BoolArray
from mollm_backend.store import Store, audit_answers, audits, certificates, events
from mollm_backend.store.audits import Audit
from mollm_backend.store.certificates import Certificate
from mollm_backend.store.projects import Project


def check(store: Store, project: Project) -> None:
    """Look at the standing samples of the certificate's version, at tasks as confident as those that it covers.

    Of a certificate by class each class is looked at. The alarm is then as many times louder as there are classes, so
    that a false one is no more frequent.
    """
    certificate = certificates.newest(store, project.id, status=certificates.GRANTED)
    audit = None if certificate is None else audits.find(store, project.id, certificate.audit_id)
    if certificate is None or audit is None:
        return
    later = [
        row
        for row in audits.every(store, project.id, purpose=audits.STANDING)
        if row.version == audit.version and row.made_at >= certificate.made_at
    ]
    if not later:
        return
    confidence = audits.frozen_of(store, project.id, audit.id).confidence
    answers = [answer for row in later for answer in _answers(store, project, row)]
    begin, certified = 0, [row for row in certificate.by_class if row["tasks"]]
    for row in certificate.by_class:
        if row in certified:
            least = confidence[begin + row["tasks"] - 1]
            alike = [one for one in answers if one.sure >= least and row["label"] in ("", one.label)]
            right = np.array([one.right for one in alike], dtype=np.bool_)
            if evidence(right, certificate.target) >= ALARM * len(certified):
                _withdraw(store, project, certificate, row["label"], right)
                return
        begin += row["of"]


@dataclass(frozen=True, slots=True)
class _Answer:
    """What a person said of a task drawn at random: is the prediction `right`, how `sure` was it, and its label."""

    right: bool
    sure: float
    label: str


def _answers(store: Store, project: Project, audit: Audit) -> list[_Answer]:
    """What people said of a standing sample; `label` is empty where there are several decisions."""
    found = audit_answers.of(store, project.id, audit)
    predicted = {row.task_id: row.predicted for row in audits.tasks_of(store, project.id, audit.id)}
    return [
        _Answer(right, sure, predicted[task_id].get("", ""))
        for task_id, right, sure in zip(
            found.task_ids.tolist(), found.right.tolist(), found.confidence.tolist(), strict=True
        )
    ]


def _withdraw(store: Store, project: Project, certificate: Certificate, label: str, right: BoolArray) -> None:
    of_class = f", predicted {label}" if label else ""
    line = (
        f"{certificate.id} is withdrawn: of {len(right)} tasks drawn at random since{of_class}, as confident as those "
        f"that it covers, {np.count_nonzero(~right)} are wrong. `mollm accept {project.id} --undo` takes its labels "
        "back."
    )
    certificates.withdraw(store, project.id, certificate.id, line)
    events.add(store, "problem", line, project.id)
