"""`mollm bench select`: how fast the query strategies pick, against the paper's plain procedures in the same run."""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

if TYPE_CHECKING:
    from mollm.records import IntArray
    from mollm.strategies import Picks, Pool

LABELS, MEMBERS = 6, 10
SHAKEN = ("bemps", "noise_stability")  # these ask for perturbed models, made before the clock starts


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
    from mollm.lab.plain_strategies import PLAIN
    from mollm.strategies import strategies
    from mollm.strategies import strategy as by_name

    labelled = min(labelled, items - 1)
    answer: dict[str, object] = {"items": items, "dimensions": dimensions, "labelled": labelled, "batch": batch}
    found: dict[str, dict[str, float | bool | int]] = {}
    for name in strategy or list(strategies()):
        sys.stderr.write(f"mollm: {name} on {items} items\n")
        pool = made_up(items, dimensions, labelled, 0, name in SHAKEN)
        seconds, cpu, _ = timed(partial(by_name(name), pool, batch, rng()))
        row: dict[str, float | bool | int] = {"seconds": seconds, "cpu_seconds": cpu}
        row["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        if plain_items and name in PLAIN:
            small = made_up(min(plain_items, items), dimensions, min(labelled, plain_items // 2), 1, True)
            sys.stderr.write(f"mollm: the plain {name} on {small.N} items\n")
            seconds, _, picks = timed(partial(by_name(name), small, batch, rng()))
            plain_seconds, plain_cpu, plain_picks = timed(partial(PLAIN[name], small, batch, rng()))
            row |= {"plain_items": small.N, "fast_seconds_there": seconds, "plain_seconds": plain_seconds}
            row["ratio"] = plain_seconds / seconds
            row["ratio_at_items"] = plain_seconds * items / small.N / row["seconds"]
            row["cpu_ratio_at_items"] = plain_cpu * items / small.N / max(cpu, 1e-9)
            row["equal_picks"] = bool(np.array_equal(picks, plain_picks))
        found[name] = row
    answer["strategies"] = found
    head = retrained(rows, dimensions) if rows else None
    if head is not None:
        answer["head_retrain"] = head
    if as_json:
        sys.stdout.write(json.dumps(answer) + "\n")
    else:
        print_rows(found)
        if head is not None:
            sys.stdout.write("a head on {rows} rows x {dimensions}: {seconds:.2g} s\n".format(**head))


def retrained(rows: int, dimensions: int) -> dict[str, float]:
    """A head's fit on made-up rows: three layers of embeddings, one label in five wrong, negatives in half of them."""
    from mollm.classifier.head import Head
    from mollm.losses import Rows

    rng = np.random.default_rng(2)
    D = 3 * dimensions
    gold = rng.integers(LABELS, size=rows)
    x = rng.standard_normal((rows, D)) / np.sqrt(D) + rng.standard_normal((LABELS, D))[gold] / D**0.5
    label = np.where(rng.random(rows) < 0.8, gold, rng.integers(LABELS, size=rows))
    negatives = (rng.random((rows, LABELS)) < 0.2) & (np.arange(LABELS) != label[:, None])
    negatives[: rows // 2] = False
    taught = Rows(np.arange(rows), label, np.ones(rows), negatives)
    started, cpu = time.perf_counter(), time.process_time()
    Head(LABELS, ridge=0.3, strength=0.7).fit(x, taught)
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return {"rows": rows, "dimensions": D, "seconds": seconds, "cpu_seconds": cpu}


def made_up(N: int, D: int, labelled: int, seed: int, shaken: bool) -> Pool:
    """Random embeddings (N, D) float32, probabilities, and, where asked for, ten perturbed models."""
    from scipy.special import softmax

    from mollm.strategies import Pool

    rng = np.random.default_rng(seed)
    x = rng.standard_normal((N, D), dtype=np.float32)
    logits = rng.standard_normal((N, LABELS)) * 2
    members = softmax(logits + rng.standard_normal((MEMBERS if shaken else 0, N, LABELS)) / 2, axis=-1)
    probs = softmax(logits, axis=-1)
    return Pool(probs, np.arange(labelled, N), np.arange(labelled), embed=lambda: x, sample=lambda *_: members)


def rng() -> np.random.Generator:
    """The same for the fast and the plain one."""
    return np.random.default_rng(0)


def timed(pick: Callable[[], Picks | IntArray]) -> tuple[float, float, IntArray]:
    """Seconds and processor seconds of one pick, and the items picked, in order."""
    started, cpu = time.perf_counter(), time.process_time()
    picks = pick()
    seconds, cpu = time.perf_counter() - started, time.process_time() - cpu
    return seconds, cpu, picks if isinstance(picks, np.ndarray) else picks.index


def print_rows(found: dict[str, dict[str, float | bool | int]]) -> None:
    """A line a strategy."""
    from rich.console import Console
    from rich.table import Table

    columns = (
        "seconds",
        "cpu_seconds",
        "peak_mb",
        "plain_seconds",
        "ratio",
        "cpu_ratio_at_items",
        "equal_picks",
    )
    table = Table("strategy", *(column.replace("_", " ") for column in columns))
    for name, row in found.items():
        table.add_row(name, *(f"{row[c]:.3g}" if c in row else "-" for c in columns))
    Console().print(table)
