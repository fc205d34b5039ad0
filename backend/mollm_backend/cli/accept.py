"""`mollm accept`: decide on an audit, and accept what it certifies."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer

from mollm.errors import InputError
from mollm_backend.cli import waiting
from mollm_backend.cli.terminal import AsJson, ProjectId, nudge, open_store, say
from mollm_backend.jobs import certified, certifying, standing
from mollm_backend.store import Store, audits, certificates, projects
from mollm_backend.store.certificates import Certificate
from mollm_backend.store.projects import Project
from mollm_backend.work import queues


def accept(
    project: ProjectId,
    target: Annotated[
        float | None, typer.Option(help="The share that must be right; must be what the audit was planned for.")
    ] = None,
    confidence: Annotated[
        float | None, typer.Option(help="How sure the promise is, over the draw of the audit; must be as planned, too.")
    ] = None,
    by_class: Annotated[
        bool, typer.Option("--by-class", help="A promise for each class, where the audit was planned for that.")
    ] = False,
    now: Annotated[bool, typer.Option("--now", help="Decide at a planned look, before all is answered.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what could be decided, without a look at the answers.")
    ] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take back what the newest certificate wrote.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait until all is written, and show how far it is.")] = False,
    json_output: AsJson = False,
) -> None:
    """Accept without a look the labels that an audit certifies; --undo takes exactly these back.

    An audit is decided once: said again, this shows the same certificate. The worker of `mollm up` writes the accepted
    labels into Label Studio, marked as accepted by the certificate.

    Examples: `mollm accept 12 --target .95 --dry-run`, `mollm accept 12 --wait`, `mollm accept 12 --undo`.
    """
    loaded, store = open_store()
    found = projects.get(store, project)
    if undo:
        certificate = _undo(store, found, dry_run=dry_run, yes=yes)
    else:
        audit = certifying.audit_of(store, found, target, confidence, by_class=by_class)
        decided = certificates.of_audit(store, project, audit.id)
        if audit.status == audits.OPEN:
            look = certifying.ready(store, found, audit, now=now)
            if dry_run:
                say(f"{audit.id}: look {look.number} of {audit.looks} would read {look.count} answers, at the target "
                    f"{audit.target:g}. Nothing was decided.")  # fmt: skip
                return
            _ask(f"Decide on {audit.id} now? It is decided once.", yes=yes)
            certificate = certifying.decide(store, found, look)
        elif decided:
            certificate = decided[-1]
        else:
            raise InputError(
                f"{audit.id} was ended without a decision: `mollm audit {project} --labels 300 --target .95` plans one."
            )
    if not dry_run:
        standing.note(store, project, loaded.batch_size)
    _show(store, found, certificate, json_output=json_output)
    if certificates.unfinished(store, project) and not dry_run:
        nudge(loaded, project)
        if wait:
            waiting.wait(
                store, queues.connect(loaded.queue_url), project,
                over=lambda: not certificates.unfinished(store, project), why=lambda: "it waits for its turn",
            )  # fmt: skip
            say(f"{certificate.id}: all is done in Label Studio.")
    if certificate.status == certificates.REFUSED:
        raise typer.Exit(1)


def _ask(question: str, *, yes: bool) -> None:
    if not yes:
        typer.confirm(question, abort=True)


def _undo(store: Store, project: Project, *, dry_run: bool, yes: bool) -> Certificate:
    """Take back the newest certificate in force. Raises InputError where there is none."""
    in_force = (certificates.GRANTED, certificates.WITHDRAWN)
    found = next((row for row in reversed(certificates.every(store, project.id)) if row.status in in_force), None)
    if found is None:
        before = certificates.newest(store, project.id, status=certificates.UNDONE)
        if before is None:
            raise InputError(f"Project {project.id} has no certificate: there is nothing to take back.")
        return before
    if dry_run:
        return found
    _ask(f"Take back {found.id}? What a person has touched stays.", yes=yes)
    certificates.undo(store, project.id, found.id)
    return next(row for row in certificates.every(store, project.id) if row.id == found.id)


def _show(store: Store, project: Project, certificate: Certificate, *, json_output: bool) -> None:
    lines = [*certified.lines(store, project, certificate), *certified.standing(store, project)]
    if json_output:
        states = certificates.states(store, project.id, certificate.id)
        print(json.dumps(asdict(certificate) | {"lines": lines, "states": states}))
        return
    for line in lines:
        say(line)
