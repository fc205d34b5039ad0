"""`mollm doctor`: print what hinders the work, one line a finding, with its fix.

It exits 1 where it finds a problem. Examples: `mollm doctor`, `mollm doctor 12`.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from mollm_backend.cli.terminal import AsJson, NumberOption, Url, console, one_number, opened
from mollm_backend.doctor import examine
from mollm_backend.doctor.finding import Finding
from mollm_backend.labelstudio.reconcile import reconcile
from mollm_backend.store import projects

STYLES = {"fine": "green", "notice": "yellow", "problem": "red"}


def doctor(
    number: Annotated[int | None, typer.Argument(metavar="PROJECT", help="One project; default: all.")] = None,
    project: NumberOption = None,
    url: Url = "",
    accept_loss: Annotated[
        bool, typer.Option("--accept-loss", help="Let labels go that are no longer in Label Studio.")
    ] = False,
    json_output: AsJson = False,
) -> None:
    """Find what hinders the work: Label Studio, network, webhook, stream, worker, LLMs; a line each, with its fix."""
    one = None if number is None and project is None else one_number(number, project)
    with opened(url) as (settings, store, client):
        if accept_loss:
            for chosen in [row.id for row in projects.every(store)] if one is None else [one]:
                reconcile(store, client, chosen, accept_loss=True, full=True)
        findings = examine(store, client, settings, one)
    if json_output:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            print_finding(finding)
    if any(finding.kind == "problem" for finding in findings):
        raise typer.Exit(1)


def print_finding(finding: Finding) -> None:
    """One line: what is so, and after it what to do."""
    fix = f". Fix: {finding.fix.rstrip('.')}." if finding.fix else ""
    console.print(Text(f"{finding.kind:8}", STYLES[finding.kind]) + f"{finding.line}{fix}", soft_wrap=True)
