"""What a certificate says, in words for people, and what it does not cover any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from mollm_backend.store import Store, audits, certificates
from mollm_backend.store.certificates import Certificate
from mollm_backend.store.projects import Project


def state(store: Store, project: Project) -> dict[str, Any] | None:
    """The newest certificate or refusal as JSON, its lines for people too; None where there is none."""
    found = certificates.newest(store, project.id)
    if found is None:
        return None
    said = [*lines(store, project, found), *standing(store, project)]
    return asdict(found) | {"states": certificates.states(store, project.id, found.id), "lines": said}


def lines(store: Store, project: Project, certificate: Certificate) -> list[str]:
    """A certificate or a refusal in words."""
    audit = audits.find(store, project.id, certificate.audit_id)
    version = audit.version if audit else "?"
    sure, target = f"{100 * certificate.confidence:g} %", f"{100 * certificate.target:g} %"
    found = f"{certificate.audits} audits, {certificate.errors} wrong"
    attempt = f"attempt {certificate.attempt} of this project"
    covered = certificate.tasks - certificate.audits
    said = [f"{certificate.id} ({certificate.audit_id}), {certificate.status}:"]
    if not certificate.tasks:
        said.append(f"Nothing is certified: too much is wrong to promise {target} with {sure} confidence; {attempt}.")
    elif len(certificate.by_class) == 1 and not certificate.by_class[0]["label"]:
        said.append(
            f"With {sure} confidence over the draw of the audit, at least {target} of these {covered:,} tasks carry "
            f"the label that your people would give. It covers no later task and no other version ({version}). "
            f"{found}; {attempt}."
        )
    else:
        said.append(
            f"With {sure} confidence over the draw of the audit, each of these holds. They cover no later task and no "
            f"other version ({version}). {found}; {attempt}."
        )
        said += [_of_class(row, target) for row in certificate.by_class]
    if certificate.note:
        said.append(certificate.note)
    if certificate.attempt > 1:
        most = min(1.0, certificate.attempt * (1 - certificate.confidence))
        said.append(f"Over {certificate.attempt} attempts the chance of any false certificate is at most {most:.2g}.")
    return said + _written(store, project, certificate)


def _of_class(row: Mapping[str, Any], target: str) -> str:
    if not row["tasks"]:
        return f"{row['label']}: none of its {row['of']:,} tasks is certified."
    return (
        f"{row['label']}: at least {target} of {row['unlabelled']:,} tasks are right ({row['audits']} audits, "
        f"{row['errors']} wrong; {row['of'] - row['tasks']:,} tasks are left to people)."
    )


def _written(store: Store, project: Project, certificate: Certificate) -> list[str]:
    """How far the writing is, or the taking back."""
    count = certificates.states(store, project.id, certificate.id)
    words = {
        certificates.WAITING: "wait to be written into Label Studio", certificates.WRITTEN: "are in Label Studio",
        certificates.KEPT: "were labelled or touched by a person", certificates.UNDONE: "are taken back or left out",
    }  # fmt: skip
    parts = [f"{count[state]:,} {what}" for state, what in words.items() if state in count]
    return [f"Of {sum(count.values()):,} accepted tasks, {', '.join(parts)}."] if parts else []


def standing(store: Store, project: Project) -> list[str]:
    """What the newest certificate in force does not cover any more; no lines where there is none, or all holds."""
    certificate = certificates.newest(store, project.id, status=certificates.GRANTED)
    if certificate is None or (audit := audits.find(store, project.id, certificate.audit_id)) is None:
        return []
    said = []
    if edited := certificates.uncovered(store, project.id, certificate.id):
        said.append(f"{certificate.id} does not cover {edited} of its tasks any more: edited or deleted since.")
    if audit.version != project.published_version:
        said.append(f"{certificate.id} is of {audit.version}; it covers nothing of {project.published_version}.")
    if audit.label_config_digest != audits.asked_digest(project.decisions):
        said.append(f"{certificate.id} covers nothing any more: the label config asks for other labels now.")
    return said
