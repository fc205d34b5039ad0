"""`mollm bench fuse`: how long it takes to refit the mixture and to predict the whole pool, and in how much memory."""

from __future__ import annotations

import json
import resource
import sys
import time
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

if TYPE_CHECKING:
    from mollm.records import FloatArray, IntArray, Signals

DIMENSIONS = 384
SAMPLES = 10
SIZES = [10_000, 100_000, 1_000_000]
RIGHT = (0.77, 0.75, 0.70, 0.68, 0.65)  # how often each annotator is right, over and over for a larger panel
COLUMNS = ("seconds", "cpu_seconds", "peak_mb", "microseconds_an_item", "ratio")


def fuse(
    items: Annotated[list[int] | None, typer.Option(min=400, help="repeatable; default: 10,000 to 1,000,000")] = None,
    annotators: Annotated[int, typer.Option(min=1)] = 5,
    labels: Annotated[int, typer.Option(min=2)] = 6,
    human: Annotated[int, typer.Option(min=0, help="human labels")] = 300,
    dimensions: Annotated[int, typer.Option(min=0, help="of a text embedding; 0: no text")] = DIMENSIONS,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """Seconds and peak memory of `auto`, refitted and asked for every item of a made-up pool.

    `ratio` is the time an item against that of the smallest pool: 1 or less is linear or better. Peak memory is the
    process's own, with the pool in it; pools are run from small to large.
    """
    rows: dict[str, dict[str, float]] = {}
    for N in sorted(items or SIZES):
        sys.stderr.write(f"mollm: {N} items\n")
        rows[str(N)] = measured(N, annotators, labels, min(human, N), dimensions)
        first = next(iter(rows.values()))["microseconds_an_item"]
        rows[str(N)]["ratio"] = rows[str(N)]["microseconds_an_item"] / first
    if as_json:
        shape = {"annotators": annotators, "labels": labels, "human": human, "dimensions": dimensions}
        sys.stdout.write(json.dumps({**shape, "items": rows}) + "\n")
    else:
        print_rows(rows)


def measured(N: int, M: int, C: int, human: int, D: int) -> dict[str, float]:
    """Refit `auto` on N items and predict them all."""
    from mollm.mixture.auto import Auto
    from mollm.records import Pool, Targets

    rng = np.random.default_rng(0)
    signals, gold = made_up(N, M, C, rng)
    embeddings = made_up_text(gold, C, D, rng) if D else None
    asked = rng.permutation(N)[:human]
    targets = Targets.of(asked, gold[asked])
    wall, cpu = time.perf_counter(), time.process_time()
    fitted = Auto().fit(Pool(signals, targets, embeddings), rng=np.random.default_rng(1))
    probs = fitted.predict_proba(signals, embeddings)
    seconds, cpu_seconds = time.perf_counter() - wall, time.process_time() - cpu
    sys.stderr.write(f"mollm: {fitted.explain()}; right: {(probs.argmax(axis=1) == gold).mean():.3f}\n")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    per_item = 1e6 * seconds / N
    return {"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mb": peak, "microseconds_an_item": per_item}


def made_up(N: int, M: int, C: int, rng: np.random.Generator) -> tuple[Signals, IntArray]:
    """A panel whose annotators err each on their own, and the gold (N,)."""
    from mollm.records import Signals

    gold = rng.integers(0, C, N)
    probs, votes = np.empty((N, M, C)), np.empty((N, M, C))
    for m in range(M):
        said = np.where(rng.random(N) < RIGHT[m % len(RIGHT)], gold, rng.integers(0, C, N))
        logits = rng.standard_normal((N, C))
        logits[np.arange(N), said] += rng.gamma(4.0, 1.0, N)
        np.exp(logits, out=logits)
        probs[:, m] = logits / logits.sum(axis=1, keepdims=True)
        votes[:, m] = rng.multinomial(SAMPLES, probs[:, m]) / SAMPLES
    names = tuple(f"llm-{m}" for m in range(M))
    return Signals(tuple(map(str, range(N))), names, tuple(f"label-{c}" for c in range(C)), probs, votes), gold


def made_up_text(gold: IntArray, C: int, D: int, rng: np.random.Generator) -> FloatArray:
    """(N, D) single precision, as an encoder gives: each class's own direction under much noise."""
    text = rng.standard_normal((len(gold), D), dtype=np.float32)
    own = 0.15 * rng.standard_normal((C, D), dtype=np.float32)
    for c in range(C):
        text[gold == c] += own[c]
    return text  # type: ignore[return-value]


def print_rows(rows: dict[str, dict[str, float]]) -> None:
    """A line a pool."""
    from rich.console import Console
    from rich.table import Table

    table = Table("items", *(column.replace("_", " ") for column in COLUMNS))
    for N, row in rows.items():
        table.add_row(N, *(f"{row[column]:.3g}" for column in COLUMNS))
    Console().print(table)
