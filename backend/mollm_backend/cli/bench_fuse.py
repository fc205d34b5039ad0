"""`mollm bench fuse`: how long a round takes on pools of several sizes, and in how much memory."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from mollm_backend.cli.terminal import note, print_figures

SIZES = [1_000, 10_000, 100_000]  # two powers of ten, so that more than linear growth shows
COLUMNS = ("seconds", "cpu_seconds", "peak_mb", "microseconds_an_item", "ratio")


def fuse(
    items: Annotated[list[int] | None, typer.Option(min=400, help="repeatable; default: 1,000 to 100,000")] = None,
    annotators: Annotated[int, typer.Option(min=1)] = 5,
    labels: Annotated[int, typer.Option(min=2)] = 6,
    human: Annotated[int, typer.Option(min=0, help="human labels")] = 300,
    dimensions: Annotated[int, typer.Option(min=0, help="of a text embedding; 0: no text")] = 384,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """Seconds and peak memory of a whole round, as the service runs it, on a made-up pool.

    `ratio` is the time an item against that of the smallest pool: 1 or less is linear or better. Peak memory is the
    process's own, with the pool in it; pools are run from small to large.
    """
    from mollm.lab import speed

    rows: dict[str, dict[str, float]] = {}
    for N in sorted(items or SIZES):
        note(f"{N} items")
        rows[str(N)] = speed.fuse(N, annotators, labels, min(human, N), dimensions, note)
        first = next(iter(rows.values()))["microseconds_an_item"]
        rows[str(N)]["ratio"] = rows[str(N)]["microseconds_an_item"] / first
    if as_json:
        shape = {"annotators": annotators, "labels": labels, "human": human, "dimensions": dimensions}
        print(json.dumps({**shape, "items": rows}))
    else:
        print_figures("items", COLUMNS, rows)
