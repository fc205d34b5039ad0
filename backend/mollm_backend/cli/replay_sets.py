"""`mollm replay sets`: how right are the sets of labels that a multiple choice is shown with?"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.table import Table

from mollm_backend.cli.replay_loop import Directory, encoder_or_none
from mollm_backend.cli.terminal import console, note

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mollm.lab.sets import Listed


def sets(
    recording: Directory,
    human: Annotated[int, typer.Option(min=0, help="human-labelled texts a seed")] = 0,
    texts: Annotated[int, typer.Option(min=10, help="texts that are made of the recording's items")] = 1000,
    seeds: Annotated[int, typer.Option(min=1, help="how many seeds")] = 5,
    first_seed: Annotated[int, typer.Option(min=0, help="the first seed; defaults were chosen on 0-9")] = 100,
    no_text: Annotated[bool, typer.Option("--no-text", help="leave the texts out")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """Of a multiple choice that is built from a recording's items, how right are the sets that are shown?"""
    from mollm.lab import sets as replays
    from mollm.recording import load

    loaded = load(recording)

    def made(seed: int) -> Listed:
        return replays.built(loaded, texts, np.random.default_rng(seed))

    encoder = None if no_text else encoder_or_none(loaded)
    answer = replays.replay(made, human, range(first_seed, first_seed + seeds), note, encoder)
    if as_json:
        known = {name: {k: v for k, v in row.items() if not math.isnan(v[0])} for name, row in answer.items()}
        print(json.dumps(known, allow_nan=False))
    else:
        print_sets(f"{loaded.name}: {human} human-labelled texts, {seeds} seeds, mean (spread)", answer)


def print_sets(title: str, answer: Mapping[str, Mapping[str, tuple[float, float]]]) -> None:
    """The answer of `mollm.lab.sets.replay` as a table."""
    columns = list(next(iter(answer.values())))
    table = Table("shown", *columns, title=title)
    for name, row in answer.items():
        cells = ("-" if math.isnan(mean) else f"{mean:.3f} ({spread:.3f})" for mean, spread in row.values())
        table.add_row(name, *cells)
    console.print(table)
