"""`mollm replay`: what the mixture and the loop would have done on a recording."""

from __future__ import annotations

import typer

from mollm_backend.cli import (
    replay_accept,
    replay_estimate,
    replay_figure,
    replay_finish,
    replay_fuse,
    replay_loop,
    replay_sets,
    replay_suspects,
    replay_texts,
    replay_worth,
)

app = typer.Typer(help="Run experiments on a recording or on labelled texts, without any LLM.", no_args_is_help=True)
app.command("loop")(replay_loop.loop)
app.command("figure")(replay_figure.figure)
app.command("fuse")(replay_fuse.fuse)
app.command("accept")(replay_accept.accept)
app.command("estimate")(replay_estimate.estimate)
app.command("suspects")(replay_suspects.suspects)
app.command("sets")(replay_sets.sets)
app.command("finish")(replay_finish.finish)
app.command("texts")(replay_texts.texts)
app.command("worth")(replay_worth.worth)
