"""`mollm replay fuse`: how often each aggregator is right on a recording, from the same few human labels."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from mollm_backend.cli.replay_loop import encoded, encoder_or_none
from mollm_backend.cli.terminal import console, note

if TYPE_CHECKING:
    from mollm.recording import Recording
    from mollm.records import FloatArray


def fuse(
    recording: Annotated[Path, typer.Argument(help="directory of the recording")],
    human: Annotated[int, typer.Option(min=0, help="human labels a seed")] = 50,
    seeds: Annotated[int, typer.Option(min=1, help="how many seeds")] = 10,
    first_seed: Annotated[int, typer.Option(min=0, help="the first seed; defaults were chosen on 0-49")] = 0,
    choose: Annotated[
        str, typer.Option(help="how the human labels are chosen: random, cold-start, or both for `auto`, compared")
    ] = "random",
    test: Annotated[int, typer.Option(min=0, help="items to hold back to score on; 0: score on all the rest")] = 0,
    aggregator: Annotated[list[str] | None, typer.Option(help="repeatable; default: all")] = None,
    no_text: Annotated[bool, typer.Option("--no-text", help="leave the texts out")] = False,
    jobs: Annotated[int, typer.Option(min=0, help="processes over the seeds; 0: one a core")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """How often is each aggregator right, from the same few human labels?"""
    from mollm.lab import fuse as replays
    from mollm.recording import load

    if choose not in ("random", "cold-start", "both"):
        raise typer.BadParameter(f"{choose!r} is none of random, cold-start and both", param_hint="--choose")
    names = tuple(aggregator or replays.NAMES)
    processes = jobs or len(os.sched_getaffinity(0))
    plan = replays.Plan(human, seeds, first_seed, choose, names, test, processes)  # type: ignore[arg-type]
    loaded = load(recording)
    plan.check(loaded)
    embeddings = None if no_text else text_embeddings(loaded)
    answer = replays.replay(loaded, plan, embeddings, progress=note)
    if as_json:
        print(json.dumps(answer, allow_nan=False))
    else:
        print_fuse(answer)


def text_embeddings(recording: Recording) -> FloatArray | None:
    """(N, D) cached embeddings of a recording's texts; None, and a note why, where there is no text or encoder."""
    return None if encoder_or_none(recording) is None else encoded(recording)[1]


def print_fuse(answer: dict[str, Any]) -> None:
    """The answer of `replay fuse` as a table."""
    title = (
        f"{answer['recording']}: {answer['human']} human labels, {len(answer['seeds'])} seeds, {answer['seconds']} s"
    )
    table = Table("aggregator", "accuracy", "ECE", "log-loss (nats)", title=title)
    for name, row in answer["results"].items():
        table.add_row(name, f"{row['mean']:.4f}", f"{row['ece']:.4f}", f"{row['log_loss']:.4f}")
    console.print(table)
    for pair, (mean, low, high) in answer["paired_gain"].items():
        interval = "" if low is None else f" (95 % {low:+.4f} to {high:+.4f})"
        console.print(f"{pair}: {mean:+.4f}{interval}")
