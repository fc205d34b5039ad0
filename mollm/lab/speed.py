"""Seconds and memory: of an annotator on texts, of the mixture, the strategies and the head on made-up pools.

What is measured is imported by the function that measures it: peak memory is the process's own, libraries included.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from mollm.config import LoopConfig
from mollm.lab import made_up
from mollm.lab.plain_strategies import PLAIN
from mollm.losses import Rows
from mollm.records import IntArray, Item, LabelSet, Targets
from mollm.strategies import Picks, strategy

if TYPE_CHECKING:
    from mollm.annotators import Answer
    from mollm.config import AnnotatorConfig

T = TypeVar("T")
Figures = dict[str, float | bool | int]
Note = Callable[[str], None]
Watch = Callable[[Iterable[int]], Iterable[int]]
INSTRUCTION = "Classify the text."
WARM_UP = 4  # texts; a server's first log-probabilities request can take 40 s
CHUNK = 64  # texts between two looks of whoever watches
CHUNKS, FEWEST = 10, 8  # how many chunks tell how far the speed varies, and the fewest texts of one
PERTURBED = ("bemps", "noise_stability")  # these ask for perturbed models, which are made before the clock starts


@dataclass(frozen=True)
class SelectSizes:
    """Of a strategy's pool. `plain_items` is the pool of the paper's plain procedure; 0: it is not run."""

    items: int
    dimensions: int
    labelled: int
    batch: int
    plain_items: int


def timed(call: Callable[[], T]) -> tuple[float, float, T]:
    """Seconds and processor seconds of one call, and what it returned."""
    started, cpu = time.perf_counter(), time.process_time()
    found = call()
    return time.perf_counter() - started, time.process_time() - cpu, found


def peak_mb() -> float:
    """The most memory that this process has had at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def annotate(
    config: AnnotatorConfig, texts: Sequence[str], labels: LabelSet, models_dir: Path, watch: Watch
) -> tuple[dict[str, str | float], list[Answer]]:
    """How an annotator asks and its texts a second, after a warm-up; and its answers. `watch` passes the chunks on."""
    from mollm.annotators import open_annotator

    with open_annotator(config, labels, INSTRUCTION, (), models_dir) as annotator:
        annotator.annotate(texts[:WARM_UP])
        starts = range(0, len(texts), CHUNK)
        seconds, _, chunks = timed(lambda: [annotator.annotate(texts[n : n + CHUNK]) for n in watch(starts)])
        way = annotator.describe().split(", ", 1)[-1]
    found: dict[str, str | float] = {f"{config.mode}_way": way, f"{config.mode}_texts_per_second": len(texts) / seconds}
    return found, [answer for chunk in chunks for answer in chunk]


def chunked(
    config: AnnotatorConfig, texts: Sequence[str], labels: LabelSet, instruction: str, models_dir: Path, watch: Watch
) -> tuple[list[int], list[float], list[Answer]]:
    """After a warm-up: the texts and the seconds of each of some equal chunks, and the answers.

    The annotator is asked just as the panel file has it.
    """
    from mollm.annotators import open_annotator

    size = min(CHUNK, max(FEWEST, len(texts) // CHUNKS))
    number = max(1, len(texts) // size)
    bounds = [len(texts) * k // number for k in range(number + 1)]
    counts, seconds, answers = list[int](), list[float](), list["Answer"]()
    with open_annotator(config, labels, instruction, (), models_dir) as annotator:
        annotator.annotate(texts[:WARM_UP])
        for k in watch(range(number)):
            took, _, heard = timed(partial(annotator.annotate, texts[bounds[k] : bounds[k + 1]]))
            counts.append(len(heard))
            seconds.append(took)
            answers += heard
    return counts, seconds, answers


def fuse(N: int, M: int, C: int, human: int, D: int, note: Note) -> Figures:
    """A whole round (`mollm.round`) on N items with `human` labels. D: dimensions of a text, 0 for no text."""
    from mollm.round.run import RoundInput, run_round

    rng = np.random.default_rng(0)
    signals, gold = made_up.panel(N, M, C, rng)
    items = [Item(item, f"text {item}" if D else None) for item in signals.items]
    encoder = made_up.MadeUpTexts(made_up.text(gold, C, D, rng)) if D else None
    asked = rng.permutation(N)[:human]
    given, config = RoundInput(items, signals, Targets.of(asked, gold[asked])), LoopConfig(classifier="head")
    seconds, cpu, outcome = timed(
        lambda: run_round(given, config=config, encoder=encoder, rng=np.random.default_rng(1))
    )
    note(f"{outcome.notes[0]}; right: {(outcome.probabilities.argmax(axis=1) == gold).mean():.3f}")
    per_item = 1e6 * seconds / N
    return {"seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak_mb(), "microseconds_an_item": per_item}


def select(name: str, sizes: SelectSizes, note: Note) -> Figures:
    """One pick by a strategy; where there is a plain procedure, both on the same smaller pool."""
    items, D, labelled, batch = sizes.items, sizes.dimensions, sizes.labelled, sizes.batch
    note(f"{name} on {items} items")
    pick = strategy(name)
    pool = made_up.pool(items, D, labelled, 0, perturbed=name in PERTURBED)
    seconds, cpu, _ = timed(partial(pick, pool, batch, _rng()))
    row: Figures = {"seconds": seconds, "cpu_seconds": cpu, "peak_mb": peak_mb()}
    if sizes.plain_items and name in PLAIN:
        small = made_up.pool(min(sizes.plain_items, items), D, min(labelled, sizes.plain_items // 2), 1, perturbed=True)
        note(f"the plain {name} on {small.N} items")
        fast_seconds, _, picks = timed(partial(pick, small, batch, _rng()))
        plain_seconds, plain_cpu, plain_picks = timed(partial(PLAIN[name], small, batch, _rng()))
        row |= {
            "plain_items": small.N,
            "fast_seconds_there": fast_seconds,
            "plain_seconds": plain_seconds,
            "ratio": plain_seconds / fast_seconds,
            "ratio_at_items": plain_seconds * items / small.N / seconds,
            "cpu_ratio_at_items": plain_cpu * items / small.N / max(cpu, 1e-9),
            "equal_picks": bool(np.array_equal(_index(picks), plain_picks)),
        }
    return row


def retrain(rows: int, dimensions: int) -> Figures:
    """A head's fit on made-up rows: three layers of embeddings, one label in five wrong, negatives in half of them."""
    from mollm.classifier.head import RIDGE, Head

    rng = np.random.default_rng(2)
    D, C = 3 * dimensions, made_up.LABELS
    gold = rng.integers(C, size=rows)
    x = rng.standard_normal((rows, D)) / np.sqrt(D) + rng.standard_normal((C, D))[gold] / D**0.5
    label = np.where(rng.random(rows) < 0.8, gold, rng.integers(C, size=rows))
    negatives = (rng.random((rows, C)) < 0.2) & (np.arange(C) != label[:, None])
    negatives[: rows // 2] = False
    taught = Rows(np.arange(rows), label, np.ones(rows), negatives)
    seconds, cpu, _ = timed(lambda: Head(C, ridge=RIDGE, strength=0.7).fit(x, taught))
    return {"rows": rows, "dimensions": D, "seconds": seconds, "cpu_seconds": cpu}


def _rng() -> np.random.Generator:
    """The same stream for the fast procedure and the plain one."""
    return np.random.default_rng(0)


def _index(picks: Picks | IntArray) -> IntArray:
    return picks if isinstance(picks, np.ndarray) else picks.index
