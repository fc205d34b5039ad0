"""`mollm demo-score`: what the demo's labels are worth, measured on its gold."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.table import Table

from mollm.config import LoopConfig
from mollm.errors import InputError
from mollm_backend.cli.terminal import AsJson, console, note, open_store
from mollm_backend.demo.run import DEMO_BATCH_SIZE, DEMO_REFIT_EVERY
from mollm_backend.store import projects

if TYPE_CHECKING:
    from mollm_backend.demo import score

AT = (0, 20, 100)  # human labels after which it scores


def demo_score(
    project: Annotated[int, typer.Option(help="The project's number; default: the demo's only one.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Simulations; figures are their means.")] = 3,
    json_output: AsJson = False,
) -> None:
    """Print the accuracy of each LLM, of the mixture, and of the mixture after 20 and 100 simulated human labels.

    The simulated person answers with the gold label, in the order of the loop's own batches and, beside it, in random
    order. Project and store are only read.
    """
    from mollm.classifier.encoder import Encoder
    from mollm_backend.demo import score  # the loop's libraries take a second to import

    loaded, store = open_store()
    number = project or _only_project([row.id for row in projects.every(store)])
    pool = score.read_pool(store, number, score.read_gold(loaded.home))
    at = tuple(stop for stop in AT if stop < len(pool.gold))
    directory = loaded.encoder_dir
    encoder = Encoder(directory, loaded.home / "cache") if directory.is_dir() else None
    config = LoopConfig(refit_every=DEMO_REFIT_EVERY, batch_size=DEMO_BATCH_SIZE)
    runs = {
        order: [
            list(score.simulate(pool, config, encoder, at, seed, draw=order == "random", progress=note))
            for seed in range(seeds)
        ]
        for order in ("loop", "random")
    }
    _print(score.of_annotators(pool), runs, len(pool.gold), json_output=json_output)


def _only_project(found: list[int]) -> int:
    if len(found) != 1:
        if not found:
            raise InputError("This home has no project yet: `make demo` (or `mollm up --demo`) makes one.")
        raise InputError(f"This home has the projects {', '.join(map(str, found))}: name one with --project.")
    return found[0]


def _print(
    annotators: dict[str, float], runs: dict[str, list[list[score.DemoScore]]], tasks: int, *, json_output: bool
) -> None:
    rows: list[tuple[str, float, float]] = [(name, value, value) for name, value in annotators.items()]
    for order, scores in runs.items():
        for column in zip(*scores, strict=True):
            labels = column[0].labels
            name = "mixture, no human label" if labels == 0 else f"mixture, {labels} labels in {order} order"
            if labels or order == "loop":
                rest, pool = (float(np.mean([getattr(one, key) for one in column])) for key in ("rest", "pool"))
                rows.append((name, rest, pool))
    if json_output:
        shown = [dict(zip(("what", "rest", "pool"), row, strict=True)) for row in rows]
        print(json.dumps({"tasks": tasks, "rows": shown}))
        return
    table = Table("", "accuracy on tasks no human labelled", "on all, humans' labels right", title=f"{tasks} tasks")
    for name, rest, pool in rows:
        table.add_row(name, f"{rest:.3f}", f"{pool:.3f}")
    console.print(table)
