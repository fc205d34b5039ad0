"""`mollm bench select`: how fast the query strategies pick, against the paper's plain procedures in the same run."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from mollm_backend.cli.terminal import note, print_figures

COLUMNS = ("seconds", "cpu_seconds", "peak_mb", "plain_seconds", "ratio", "cpu_ratio_at_items", "equal_picks")


def select(
    items: Annotated[int, typer.Option(min=2, help="items in the made-up pool")] = 100_000,
    dimensions: Annotated[int, typer.Option(min=1, help="of an embedding")] = 384,
    labelled: Annotated[int, typer.Option(min=1, help="items that humans have labelled")] = 500,
    batch: Annotated[int, typer.Option(min=1, help="items to pick")] = 50,
    plain_items: Annotated[
        int, typer.Option(min=0, help="pool of the plain procedures; beyond a few thousand they take minutes; 0: none")
    ] = 2_000,
    strategy: Annotated[list[str] | None, typer.Option(help="repeatable; default: all")] = None,
    rows: Annotated[int, typer.Option(min=0, help="training rows of the head that is retrained; 0: none")] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """Seconds and peak memory of each strategy, against the paper's plain procedures; seconds of a head's retraining.

    `ratio` and the equality of picks are measured on `plain-items`; `ratio_at_items` takes the plain procedure, whose
    loops are linear in the items, to the whole pool; `cpu_ratio_at_items` is the same in processor seconds, which a
    busy machine does not bend.
    """
    from mollm.lab import speed
    from mollm.strategies import strategies

    sizes = speed.SelectSizes(items, dimensions, min(labelled, items - 1), batch, plain_items)
    found = {name: speed.select(name, sizes, note) for name in strategy or strategies()}
    head = speed.retrain(rows, dimensions) if rows else None
    if as_json:
        pool = {"items": items, "dimensions": dimensions, "labelled": sizes.labelled, "batch": batch}
        print(json.dumps(pool | {"strategies": found} | ({"head_retrain": head} if head else {})))
        return
    print_figures("strategy", COLUMNS, found)
    if head is not None:
        print("a head on {rows} rows x {dimensions}: {seconds:.2g} s".format(**head))
