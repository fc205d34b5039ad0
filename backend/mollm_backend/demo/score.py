"""How good the demo's labels are, on its gold: each LLM, the mixture alone, and the mixture as people label.

The people are simulated: the label that they give is the gold one. Nothing of the project is changed, and what is
scored after H labels is the other tasks only (`rest`), with the whole pool beside it, humans' labels counted as right.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mollm.config import LoopConfig
from mollm.errors import InputError
from mollm.records import BoolArray, IntArray, Item, Signals, Targets
from mollm.round.run import Embeds, RoundInput, run_round
from mollm_backend.store import Store, projects, signals, tasks
from mollm_backend.wheels import Tell


@dataclass(frozen=True)
class DemoPool:
    """The demo's N tasks as the loop sees them, and `gold` (N,), the column of each task's gold label."""

    items: tuple[Item, ...]
    signals: Signals
    gold: IntArray


@dataclass(frozen=True)
class DemoScore:
    """Accuracy after `labels` human labels: of the tasks that no human labelled, and of all with humans' as right."""

    labels: int
    rest: float
    pool: float


def read_gold(home: Path) -> dict[str, str]:
    """text -> label. Raises InputError where no demo was made in this home."""
    try:
        found: dict[str, str] = json.loads((home / "demo" / "gold.json").read_text(encoding="utf-8"))["gold"]
    except (OSError, ValueError, KeyError):
        raise InputError(f"There is no gold of a demo in {home}: run `mollm up --demo` first.") from None
    return found


def read_pool(store: Store, project_id: int, gold: dict[str, str]) -> DemoPool:
    """The tasks with gold that every annotator has read. Raises InputError where there is none."""
    project = projects.get(store, project_id)
    rows = [task for task in tasks.every(store, project_id) if task.text in gold]
    panel = signals.load(store, project, rows)
    known: BoolArray = np.asarray(~panel.missing.any(axis=1))
    kept = [task for task, is_known in zip(rows, known, strict=True) if is_known]
    if not kept:
        raise InputError("No task with gold has been read by the whole panel yet: wait for `mollm up --demo`.")
    column = {name: c for c, name in enumerate(project.decision.labels.names)}
    return DemoPool(
        tuple(task.item for task in kept),
        panel.take(known),
        np.array([column[gold[task.text or ""]] for task in kept], dtype=np.int64),
    )


def of_annotators(pool: DemoPool) -> dict[str, float]:
    """Each LLM's accuracy: the most probable label of its corrected distribution."""
    top = pool.signals.label_probs.argmax(axis=2)
    return {name: float((top[:, m] == pool.gold).mean()) for m, name in enumerate(pool.signals.annotators)}


def simulate(
    pool: DemoPool, config: LoopConfig, encoder: Embeds | None, at: tuple[int, ...], seed: int, *, draw: bool,
    progress: Tell,
) -> Iterator[DemoScore]:  # fmt: skip
    """Scores after `at` (rising) human labels, given in the loop's own order, or in random order with `draw`.

    The mixture is refitted every `config.refit_every` labels, as in the project.
    """
    rng = np.random.default_rng([seed, 2])
    shuffled = rng.permutation(len(pool.gold))
    place = {item: n for n, item in enumerate(pool.signals.items)}
    asked: list[int] = []
    round_index = 0
    while True:
        targets = Targets.of(asked, pool.gold[asked] if asked else [])
        outcome = run_round(
            RoundInput(pool.items, pool.signals, targets, round_index), config=config, encoder=encoder,
            rng=np.random.default_rng([seed, round_index]),
        )  # fmt: skip
        if len(asked) in at:
            yield _score(pool, outcome.probabilities.argmax(axis=1), asked)
        if len(asked) >= at[-1]:
            return
        following = min(stop for stop in at if stop > len(asked))
        if draw:  # no round decides what comes next, so those between two scores are left out
            asked = [int(n) for n in shuffled[:following]]
        else:
            step = min(config.refit_every, following - len(asked))
            asked += [place[entry.item] for entry in outcome.entries[:step]]
        round_index += 1
        progress(f"seed {seed}: {len(asked)} of {at[-1]} labels")


def _score(pool: DemoPool, top: IntArray, asked: list[int]) -> DemoScore:
    right: BoolArray = top == pool.gold
    rest = np.ones(len(right), dtype=np.bool_)
    rest[asked] = False
    return DemoScore(len(asked), float(right[rest].mean()), float((right | ~rest).mean()))
