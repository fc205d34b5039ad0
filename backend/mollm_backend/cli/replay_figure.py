"""`mollm replay figure`: the paper's figure on a recording."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from mollm_backend.cli.replay_loop import (
    BatchSize,
    Classifier,
    Directory,
    FirstSeed,
    Kind,
    Rounds,
    Seeds,
    Strategy,
    TestSize,
    Threads,
    encoder_for,
    set_threads,
)  # fmt: skip
from mollm_backend.cli.terminal import note


def figure(
    recording: Directory, rounds: Rounds = 10, batch: BatchSize = 50, test: TestSize = 1000,
    strategy: Strategy = "random", classifier: Classifier = Kind.HEAD, seeds: Seeds = 3, first_seed: FirstSeed = 0,
    threads: Threads = 0,
    plot: Annotated[Path, typer.Option(help="the file to draw into (.png, .svg, .pdf)")] = Path("figure.png"),
    as_json: Annotated[bool, typer.Option("--json", help="the curves as one JSON object on stdout")] = False,
) -> None:  # fmt: skip
    """The paper's figure: ours, the oracle, each LLM, LLMs-V and LLMs-L, with bands over seeds."""
    from mollm.lab.experiment import LoopOptions
    from mollm.lab.figure import curves, draw
    from mollm.recording import load

    loaded = load(recording)
    options = LoopOptions(rounds, batch, test, strategy, classifier=classifier.value)
    set_threads(threads, classifier)
    numbers = list(range(first_seed, first_seed + seeds))
    found = curves(loaded, options, numbers, encoder_for(loaded, classifier), note)
    draw(found, f"{loaded.name}: {strategy}, {classifier.value}", plot)
    note(f"drawn: {plot}")
    if as_json:
        print(json.dumps(found, allow_nan=False))
