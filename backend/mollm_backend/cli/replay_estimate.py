"""`mollm replay estimate`: what is said of the accuracy of the rest at each stage, beside the truth."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from mollm_backend.cli.replay_fuse import text_embeddings
from mollm_backend.cli.terminal import console, note


def estimate(
    recording: Annotated[Path, typer.Argument(help="directory of the recording")],
    human: Annotated[list[int] | None, typer.Option(help="human labels; repeatable; default: 50 and 300")] = None,
    audit: Annotated[list[int] | None, typer.Option(help="audits; repeatable; default: 30, 100 and 300")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="how many seeds")] = 20,
    first_seed: Annotated[int, typer.Option(min=0, help="the first seed; defaults were chosen on 0-49")] = 100,
    no_text: Annotated[bool, typer.Option("--no-text", help="leave the texts out")] = False,
    jobs: Annotated[int, typer.Option(min=0, help="processes over the seeds; 0: one a core")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """How true is what is said of the accuracy of the rest?"""
    from mollm.lab import estimates as replays
    from mollm.recording import load

    plan = replays.Plan(
        tuple(human or (50, 300)),
        tuple(audit or (30, 100, 300)),
        seeds,
        first_seed,
        jobs or len(os.sched_getaffinity(0)),
    )
    loaded = load(recording)
    plan.check(loaded)
    answer = replays.replay(loaded, plan, None if no_text else text_embeddings(loaded), progress=note)
    if as_json:
        print(json.dumps(answer, allow_nan=False))
    else:
        print_estimates(answer)


def print_estimates(answer: dict[str, Any]) -> None:
    """The answer of `replay estimate` as a table."""
    table = Table("labels", "audits", "truth", "estimate (95 %)", "covered", "own guess", "cross-fitted",
                  title=f"{answer['recording']}: {len(answer['seeds'])} seeds, means")  # fmt: skip
    for row in answer["stages"]:
        estimated = f"{row['said']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
        said = (estimated, f"{row['covered']} of {row['n']}", f"{row['guess']:.3f}", f"{row['cross_fitted']:.3f}")
        table.add_row(str(row["human"]), str(row["audits"]), f"{row['truth']:.3f}", *said)
    console.print(table)
