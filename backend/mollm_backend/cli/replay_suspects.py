"""`mollm replay suspects`: of labels that were flipped on purpose, how many are found?"""

from __future__ import annotations

import json
from typing import Annotated

import typer

from mollm_backend.cli.replay_fuse import text_embeddings
from mollm_backend.cli.replay_loop import Directory
from mollm_backend.cli.terminal import note, print_figures


def suspects(
    recording: Directory,
    human: Annotated[int, typer.Option(min=2, help="human labels a seed")] = 1000,
    noise: Annotated[float, typer.Option(help="share of the human labels that is flipped to another class")] = 0.05,
    top: Annotated[int, typer.Option(min=1, help="how many of the most suspect labels are looked at")] = 50,
    seeds: Annotated[int, typer.Option(min=1, help="how many seeds")] = 3,
    first_seed: Annotated[int, typer.Option(min=0, help="the first seed; the score was chosen on 0-2")] = 100,
    no_text: Annotated[bool, typer.Option("--no-text", help="leave the texts out")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object on stdout")] = False,
) -> None:
    """Of human labels that were flipped on purpose, how many does the list of suspects find? Rival: cleanlab."""
    from mollm.lab import suspects as replays
    from mollm.recording import load

    loaded = load(recording)
    plan = replays.Plan(human, noise, top, seeds, first_seed)
    plan.check(loaded)
    answer = replays.replay(loaded, plan, None if no_text else text_embeddings(loaded), progress=note)
    means = answer["means"]
    assert isinstance(means, dict)
    if len(means) < 2 + len(replays.RIVALS):
        note("cleanlab is not installed, so it is not measured: pip install cleanlab")
    if as_json:
        print(json.dumps(answer, allow_nan=False))
        return
    column = f"precision at {top}"
    print_figures("ranking", (column,), {name: {column: mean} for name, mean in means.items()})
