"""`mollm replay loop` and `mollm replay figure`: the paper's curves on a recording, without leaks."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

if TYPE_CHECKING:
    from mollm.classifier.encoder import Encoder
    from mollm.recording import Recording


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
        sys.stdout.write(json.dumps(answer, allow_nan=False) + "\n")
    else:
        print_rounds(answer)


def figure(
    recording: Directory,
    rounds: Rounds = 10,
    batch: BatchSize = 50,
    test: TestSize = 1000,
    strategy: Strategy = "random",
    classifier: Classifier = Kind.HEAD,
    seeds: Seeds = 3,
    first_seed: FirstSeed = 0,
    threads: Threads = 0,
    plot: Annotated[Path, typer.Option(help="the file to draw into (.png, .svg, .pdf)")] = Path("figure.png"),
    as_json: Annotated[bool, typer.Option("--json", help="the curves as one JSON object on stdout")] = False,
) -> None:
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
        sys.stdout.write(json.dumps(found, allow_nan=False) + "\n")


def encoder_for(recording: Recording, classifier: Kind) -> Encoder | None:
    """The encoder under MOLLM_HOME, fetched the first time; None, and a note why, where nothing can be encoded.

    Without a text there is nothing to train: the mixture is scored alone. A tuned classifier raises instead of
    going on without its encoder.
    """
    from mollm.classifier.encoder import Encoder
    from mollm_backend.packages import PACKAGES, ensure_model
    from mollm_backend.settings import Settings

    if not recording.has_text or classifier is Kind.NONE:
        note(f"{recording.name}: the panel alone, there is " + ("no classifier" if recording.has_text else "no text"))
        return None
    settings = Settings()
    home = settings.home.expanduser()
    if settings.encoder in PACKAGES:
        ensure_model(settings.encoder, home, note)
    encoder = Encoder(home / "models" / settings.encoder, home / "cache")
    encoder.embed([item.text or "" for item in recording.items], progress=note)
    return encoder


def set_threads(threads: int, classifier: Kind) -> None:
    """Bound torch's threads before it starts any."""
    if threads and classifier in (Kind.AUTO, Kind.TOP, Kind.FULL):
        import torch

        torch.set_num_threads(threads)


def note(line: str) -> None:
    """Progress goes to stderr: stdout is for the answer."""
    sys.stderr.write(f"mollm: {line}\n")


def print_rounds(answer: dict[str, object]) -> None:
    """A line a round."""
    from rich.console import Console
    from rich.table import Table

    columns = ("human_labels", "curve", "label_accuracy", "pool_accuracy", "rest_accuracy", "seconds")
    table = Table("round", *(column.replace("_", " ") for column in columns))
    curve = cast(dict[str, list[float | None]], answer["curve"])["mean"]
    lists = {**answer, "curve": curve}
    for r in range(len(curve)):
        row = [cast(list[float | None], lists[column])[r] for column in columns]
        table.add_row(str(r + 1), *("-" if value is None else f"{value:.4g}" for value in row))
    Console().print(table)
