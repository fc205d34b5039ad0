"""`mollm replay texts`: how right the text classifier is alone, on a file of texts with their labels."""

from __future__ import annotations

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, cast

import typer
from rich.table import Table

from mollm.errors import InputError
from mollm_backend.cli.replay_loop import encoder_here
from mollm_backend.cli.terminal import console, names_in, note
from mollm_backend.demo import texts as demo_texts


class Kind(StrEnum):
    """What is trained on the labels."""

    HEAD = "head"
    AUTO = "auto"
    TOP = "top"


def texts(
    file: Annotated[Path, typer.Argument(help="CSV, JSON or JSONL file with a text and a label column")],
    human: Annotated[int, typer.Option(min=0, help="human labels a seed, drawn at random")] = 100,
    seeds: Annotated[int, typer.Option(min=1, help="how many seeds")] = 10,
    first_seed: Annotated[int, typer.Option(min=0, help="the first seed; defaults were chosen on 0-49")] = 100,
    classifier: Annotated[
        Kind, typer.Option(help="head: frozen embeddings; auto: as in a project, tuned layers where they pay")
    ] = Kind.HEAD,
    cut: Annotated[bool, typer.Option(help="beside it, texts cut at the end of their first window")] = True,
    names: Annotated[
        bool, typer.Option("--names", help="beside it, the encoder is an annotator, too, by the labels' names")
    ] = False,
    limit: Annotated[int, typer.Option(min=0, help="at most so many texts, of each label in turn; 0: all")] = 0,
    label_names: Annotated[str, typer.Option("--labels", help="the labels, separated by commas; default: all")] = "",
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """From a few human labels and no LLM: how often is the text classifier right on the other texts?

    With `--names` also: what does the text encoder add as an annotator, before any label (`--human 0`) and after?
    """
    from mollm.lab import texts as replays

    read = demo_texts.from_file(file, labels=names_in(label_names))
    read = read.first(limit) if limit else read
    known = [text for text in read.texts if text in read.gold]
    if not known:
        raise InputError(f"{file} has no label column, and without labels nothing can be scored: add one.")
    recording = replays.recording_of(file.stem, known, [read.gold[text] for text in known], read.labels)
    encoders = {"whole": encoder_here()} | ({"cut": encoder_here(most=1)} if cut else {})
    plan = replays.Plan(human, seeds, first_seed, classifier.value, names)
    answer = replays.replay(recording, plan, encoders, progress=note)
    if as_json:
        print(json.dumps(answer, allow_nan=False))
    else:
        print_texts(answer)


def print_texts(answer: dict[str, Any]) -> None:
    """The answer as a table."""
    title = (
        f"{answer['texts']}: {answer['n']} texts, {answer['human']} human labels, {answer['classifier']}, "
        f"{len(answer['seeds'])} seeds, {answer['seconds']} s"
    )
    table = Table("texts", "accuracy", "least", "ECE", "log-loss (nats)", "tokens not read", title=title)
    for name, row in answer["results"].items():
        figures = (row["mean"], min(row["accuracy"]), row["ece"], row["log_loss"])
        table.add_row(name, *(f"{figure:.4f}" for figure in figures), f"{row['unread']['tokens']:,}")
    console.print(table)
    for pair, (mean, low, high) in cast(dict[str, list[float]], answer["paired_gain"]).items():
        interval = "" if low is None else f" (95 % {low:+.4f} to {high:+.4f})"
        console.print(f"{pair}: {mean:+.4f}{interval}")
