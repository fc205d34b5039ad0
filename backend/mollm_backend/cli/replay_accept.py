"""`mollm replay accept`: how much of a recording is accepted unseen, and was it as right as promised?"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from mollm_backend.cli.replay_fuse import text_embeddings
from mollm_backend.cli.terminal import console, note


def accept(
    recording: Annotated[Path, typer.Argument(help="directory of the recording")],
    human: Annotated[int, typer.Option(min=1, help="human labels to fit the mixture on")] = 300,
    audit: Annotated[int, typer.Option(min=1, help="audits: blind human labels to certify with")] = 300,
    target: Annotated[list[float] | None, typer.Option(help="share that must be right; repeatable")] = None,
    confidence: Annotated[float, typer.Option(help="of the promise, over the draw of the audit")] = 0.95,
    seeds: Annotated[int, typer.Option(min=1, help="how many seeds")] = 200,
    first_seed: Annotated[int, typer.Option(min=0, help="the first seed; defaults were chosen on 0-49")] = 100,
    no_text: Annotated[bool, typer.Option("--no-text", help="leave the texts out")] = False,
    jobs: Annotated[int, typer.Option(min=0, help="processes over the seeds; 0: one a core")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """How much is accepted at a target, and in how many seeds was it as right as promised?"""
    from mollm.lab import accept as replays
    from mollm.recording import load

    plan = replays.Plan(
        human, audit, tuple(target or (0.95,)), confidence, seeds, first_seed, jobs or len(os.sched_getaffinity(0))
    )
    loaded = load(recording)
    plan.check(loaded)
    answer = replays.replay(loaded, plan, None if no_text else text_embeddings(loaded), progress=note)
    if as_json:
        print(json.dumps(answer, allow_nan=False))
    else:
        print_accept(answer)


def print_accept(answer: dict[str, Any]) -> None:
    """The answer of `replay accept` as a table."""
    n = len(answer["seeds"])
    title = f"{answer['recording']}: {answer['human']} human labels, {answer['audit']} audits, {n} seeds"
    table = Table("target", "promise kept", "accepted of the rest (95 %)", "refused", "oracle", title=title)
    for target, row in (answer.get("results") or {f"{answer['target']:g}": answer}).items():
        low, high = row["accepted_interval"]
        accepted = f"{row['accepted']:.3f} [{low:.3f}, {high:.3f}]"
        table.add_row(target, f"{row['kept']} of {n}", accepted, f"{row['refused']:.3f}", f"{row['oracle']:.3f}")
    console.print(table)
