"""`mollm replay worth`: one member alone, a decision endpoint say, against the mixture with and without it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from mollm_backend.cli.replay_fuse import text_embeddings
from mollm_backend.cli.terminal import console, note, say


def worth(
    recording: Annotated[Path, typer.Argument(help="directory of the recording: `mollm record` makes one")],
    member: Annotated[str, typer.Option(help="the member that may be enough by itself")],
    human: Annotated[list[int] | None, typer.Option(help="human labels; repeatable; default: 0, 50 and 300")] = None,
    price: Annotated[float | None, typer.Option(min=0, help="what the member costs for 1,000 texts")] = None,
    others_price: Annotated[
        float | None, typer.Option(min=0, help="what the other members together cost for 1,000 texts")
    ] = None,
    label_price: Annotated[float | None, typer.Option(min=0, help="what one human label costs")] = None,
    texts: Annotated[
        int, typer.Option(min=0, help="texts over which the labels' price is spread; 0: those of the recording")
    ] = 0,
    seeds: Annotated[int, typer.Option(min=2, help="how many seeds")] = 10,
    first_seed: Annotated[int, typer.Option(min=0, help="the first seed; defaults were chosen on 0-49")] = 100,
    no_text: Annotated[bool, typer.Option("--no-text", help="leave the texts out")] = False,
    jobs: Annotated[int, typer.Option(min=0, help="processes over the seeds; 0: one a core")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """Is one member enough, or is the mixture worth it? Accuracy and the price of 1,000 texts, side by side.

    `alone` is the member's own answer. `with the labels` is the member, the human labels and the texts, without the
    other LLMs. `the others` is the mixture without the member. Prices are in any one currency: `mollm plan` and
    `mollm report` say what a member costs. Intervals (95 %) are of paired differences, over seeds; with no label, over
    items.
    """
    from mollm.lab import worth as replays
    from mollm.recording import load

    plan = replays.Plan(member, tuple(human or (0, 50, 300)), seeds, first_seed, jobs or len(os.sched_getaffinity(0)))
    loaded = load(recording)
    plan.check(loaded)
    prices = replays.Prices(price, others_price, label_price, texts)
    answer = replays.replay(loaded, plan, prices, None if no_text else text_embeddings(loaded), progress=note)
    if as_json:
        print(json.dumps(answer, allow_nan=False))
    else:
        print_worth(answer)


def print_worth(answer: dict[str, Any]) -> None:
    """A line a way at each number of labels, and what the mixture gains over it."""
    title = f"{answer['recording']}: {answer['member']} or the mixture with {', '.join(answer['others'])}"
    table = Table("labels", "way", "accuracy", "price of 1,000 texts", "the mixture's gain (95 %)", title=title)
    for stage in answer["stages"]:
        for name, row in stage["ways"].items():
            spread = "" if row["spread"] is None else f" ± {row['spread']:.4f}"
            paid = "-" if row["price"] is None else f"{row['price']:.4g}"
            shown = f"{answer['member']} {name}" if name in ("alone", "with the labels") else name
            table.add_row(str(stage["human"]), shown, f"{row['accuracy']:.4f}{spread}", paid, _gain(stage, name))
    console.print(table)
    for stage in answer["stages"]:
        say(f"{stage['human']} labels: n = {stage['n']} {stage['over']}")


def _gain(stage: dict[str, Any], name: str) -> str:
    if name not in stage["gain"]:
        return ""
    mean, low, high = stage["gain"][name]
    return f"{mean:+.4f}" if low is None else f"{mean:+.4f} ({low:+.4f} to {high:+.4f})"
