"""Withdraw a certificate, aloud, when tasks drawn at random later speak against it (`mollm.acceptance.drift`)."""

from __future__ import annotations

import numpy as np

from mollm.acceptance.drift import ALARM, evidence
from mollm_backend.store import Store, audits, certificates, events
from mollm_backend.store.projects import Project


def check(store: Store, project: Project) -> None:
    """Look at the standing samples of the certificate's version, at tasks as confident as those that it covers.

    A certificate by class is not checked: it has a threshold for each class.
    """
    certificate = certificates.newest(store, project.id, status=certificates.GRANTED)
    audit = None if certificate is None else audits.find(store, project.id, certificate.audit_id)
    if certificate is None or audit is None or len(audit.parts) > 1:
        return
    later = [
        row
        for row in audits.every(store, project.id, purpose=audits.STANDING)
        if row.version == audit.version and row.made_at >= certificate.made_at
    ]
    if not later:
        return
    least = audits.frozen_of(store, project.id, audit.id).confidence[certificate.tasks - 1]
    found = [audits.answers(store, project.id, row) for row in later]
    right = np.concatenate([row.right[row.confidence >= least] for row in found])
    if evidence(right, certificate.target) < ALARM:
        return
    line = (
        f"{certificate.id} is withdrawn: of {len(right)} tasks drawn at random since, as confident as those that it "
        f"covers, {np.count_nonzero(~right)} are wrong. `mollm accept {project.id} --undo` takes its labels back."
    )
    certificates.withdraw(store, project.id, certificate.id, line)
    events.add(store, "problem", line, project.id)
