"""`mollm replay finish`: how many human labels until a whole recording is certified, and was the promise kept?"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from mollm_backend.cli.replay_loop import Kind, encoded, encoder_or_none, set_threads
from mollm_backend.cli.terminal import console, note

if TYPE_CHECKING:
    from mollm.classifier.encoder import Encoder
    from mollm.recording import Recording
    from mollm.records import FloatArray


def finish(
    recording: Annotated[Path, typer.Argument(help="directory of the recording")],
    target: Annotated[float, typer.Option(help="share of the whole pool that must be right")] = 0.95,
    confidence: Annotated[float, typer.Option(help="of the promise, over all audits of a seed")] = 0.95,
    seeds: Annotated[int, typer.Option(min=1, help="how many seeds")] = 20,
    first_seed: Annotated[int, typer.Option(min=0, help="the first seed; defaults were chosen on 0-5")] = 100,
    draws: Annotated[
        int, typer.Option(min=1, help="draws of a seed's first audit, from the same round: its length is much luck")
    ] = 1,
    batch: Annotated[int, typer.Option(min=1, help="human labels a round, after the first 50")] = 50,
    audit: Annotated[int, typer.Option(min=1, help="most labels of one audit; the plan chooses how many")] = 1000,
    classifier: Annotated[
        Kind, typer.Option(help="auto: tuned layers where a round pays for them; head: frozen embeddings, fast")
    ] = Kind.AUTO,
    random: Annotated[bool, typer.Option(help="the rival, random labels, beside the loop's choice")] = True,
    jobs: Annotated[int, typer.Option(min=0, help="processes over the seeds; 0: one a core")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """How many human labels, audits among them, until the whole pool is certified at the target?

    With texts a seed of some thousand items takes about half an hour of a core, and random labels come on top: begin
    with `--seeds 2 --no-random`, or with `--classifier head`, which tunes no layers.
    """
    from mollm.acceptance.plan import Goal
    from mollm.lab import finish as replays
    from mollm.recording import load

    goal = Goal(target, confidence, batch, audit)
    processes = min(jobs or len(os.sched_getaffinity(0)), seeds)
    options = replays.Options(goal, classifier.value, random, seeds, first_seed, draws, processes)
    loaded = load(recording)
    options.check(loaded)
    set_threads(1, classifier)
    encoder, embeddings = _texts(loaded)
    answer = replays.replay(loaded, options, encoder, embeddings, progress=note)
    if as_json:
        print(json.dumps(answer, allow_nan=False))
    else:
        print_finish(answer)


def _texts(recording: Recording) -> tuple[Encoder | None, FloatArray | None]:
    """The encoder and the embeddings (N, D) of a recording's texts; none, and a note why, where there are none."""
    encoder = encoder_or_none(recording)
    return (None, None) if encoder is None else encoded(recording)


def print_finish(answer: dict[str, Any]) -> None:
    """The answer of `replay finish` as a table."""
    seeds, rows = len(answer["seeds"]), len(answer["rows"])
    drawn = f", {rows // seeds} draws each" if rows > seeds else ""
    table = Table("labels by", "share labelled (95 %)", "labels", "of them audits", "promise kept",
                  title=f"{answer['recording']}: all of it at {answer['target']:g}, {seeds} seeds{drawn}")  # fmt: skip
    for name, row in (("the loop's choice", answer), ("random", answer.get("random"))):
        if row:
            low, high = row["share_interval"]
            share = f"{row['share']:.3f} [{low:.3f}, {high:.3f}]"
            table.add_row(name, share, f"{row['labels']:.0f}", f"{row['audits']:.0f}", f"{row['kept']} of {rows}")
    console.print(table)
    console.print(guess_table(answer["guesses"]))


def guess_table(guesses: Sequence[dict[str, Any]]) -> Table:
    """What the loop's rounds expected of the open items, beside the truth."""
    table = Table("labels", "seeds", "expects to be right on", "allowing for chosen labels", "is right on", "between",
                  title="the mixture's own guess of the open items")  # fmt: skip
    for row in guesses:
        shares = [f"{row[name]:.3f}" for name in ("expected", "allowing", "right")]
        table.add_row(str(row["labels"]), str(row["n"]), *shares, f"{row['between']} of {row['n']}")
    return table
