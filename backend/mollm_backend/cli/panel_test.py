"""`mollm panel test`: ask each LLM of a panel for a few texts, before it reads all of them."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer
from rich.table import Table

from mollm.config import AnnotatorConfig
from mollm.errors import MollmError
from mollm_backend import packages, panels
from mollm_backend.cli.terminal import AsJson, console, names_in, note, open_store, say
from mollm_backend.settings import Settings

if TYPE_CHECKING:
    from mollm.annotators import Answer
    from mollm.lab.panel_trial import Trial
    from mollm_backend.cli.record import Wanted

THOUSAND = 1000  # texts: what time and cost are shown for


@dataclass(frozen=True)
class Failed:
    """A member that could not be asked, and why."""

    name: str
    why: str


def try_(
    panel: Annotated[str, typer.Argument(help="A panel's name or TOML file; default: the one in use.")] = "",
    project: Annotated[int | None, typer.Option(help="Texts of this connected project.")] = None,
    file: Annotated[Path | None, typer.Option(help="Texts from a CSV, JSON or JSONL file.")] = None,
    label_names: Annotated[str, typer.Option("--labels", help="Labels for --file, separated by commas.")] = "",
    texts: Annotated[int, typer.Option(min=5, help="So many texts, drawn at random.")] = 20,
    json_output: AsJson = False,
) -> None:
    """Ask each LLM of a panel for a few texts: speed, cost, agreement, and what is odd about its answers.

    Without --project or --file, of the demo's texts. Models that are not there are fetched first. An LLM that cannot be
    asked is one line, and the others go on.
    """
    from mollm.lab import panel_trial  # the libraries behind it take a second to import

    if project is not None and file is not None:
        raise typer.BadParameter("name either --file or --project")
    loaded, _ = open_store()
    config = panels.load(panel or loaded.panel, loaded.home)
    wanted, chosen = _drawn(loaded, config.annotators, config.instruction, project, file, label_names, texts)
    answers: dict[str, tuple[Sequence[Answer], float]] = {}
    failed: list[Failed] = []
    for member in config.annotators:
        try:
            answers[member.name] = _asked(loaded, member, wanted, chosen)
        except MollmError as error:
            failed.append(Failed(member.name, " ".join(str(error).split()).removeprefix(f"{member.name}: ")))
            note(f"{member.name}: {failed[-1].why} The others go on.")
    trials = panel_trial.judge(answers, wanted.labels, [wanted.gold[n] for n in chosen])
    prices = {member.name: member.price_per_mtok for member in config.annotators}
    _print(trials, failed, prices, json_output=json_output)
    if not trials:
        raise typer.Exit(1)


def _drawn(
    loaded: Settings, members: Sequence[AnnotatorConfig], instruction: str, project: int | None, file: Path | None,
    label_names: str, count: int,
) -> tuple[Wanted, list[int]]:  # fmt: skip
    """The texts with all that is asked about them, and the places of those that are drawn."""
    from mollm.config import PanelConfig
    from mollm_backend.cli import record
    from mollm_backend.demo import texts as demo_texts
    from mollm_backend.store import Store

    panel = PanelConfig(annotators=tuple(members), instruction=instruction)
    if project is not None:
        wanted = record.from_project(Store(loaded.store_url), project, panel, 0)
    elif file is not None:
        wanted = record.from_file(file, names_in(label_names), panel, 0)
    else:
        corpus = packages.ensure_model(demo_texts.CORPUS, loaded.models_dir, note)
        wanted = record.from_texts(demo_texts.from_corpus(corpus), panel)
    rng = np.random.default_rng(0)
    drawn = rng.permutation(len(wanted.items))[:count]
    return wanted, sorted(drawn.tolist())


def _asked(
    loaded: Settings, member: AnnotatorConfig, wanted: Wanted, chosen: list[int]
) -> tuple[Sequence[Answer], float]:
    """The answers to the chosen texts and the seconds that they took. Raises MollmError."""
    from mollm.annotators import open_annotator
    from mollm_backend.supervisor import llama_cpp

    if name := packages.to_fetch(member):
        packages.ensure_model(name, loaded.models_dir, note)
    asked = (wanted.labels, wanted.instruction, wanted.shots)
    with (
        llama_cpp.lent(loaded, member, note) as reached,
        open_annotator(reached, *asked, loaded.models_dir) as annotator,
    ):
        note(f"asking {annotator.describe()}")
        started = time.monotonic()
        found = annotator.annotate([wanted.items[n].text or "" for n in chosen])
        return found, time.monotonic() - started


def _print(trials: list[Trial], failed: list[Failed], prices: dict[str, float], *, json_output: bool) -> None:
    if json_output:
        rows = [asdict(one) | {"dollars_a_thousand": _dollars(one, prices)} for one in trials]
        print(json.dumps({"members": rows, "failed": [asdict(one) for one in failed]}))
        return
    heads = ("LLM", "texts/s", "1,000 texts", "tokens a text", "abstained", "spread", "agrees", "right")
    table = Table(*heads, title=f"{trials[0].texts} texts" if trials else "nobody could be asked")
    for one in trials:
        speed = one.texts / max(one.seconds, 1e-9)
        dollars = _dollars(one, prices)
        table.add_row(
            one.name, f"{speed:.2g}", _lasts(THOUSAND / speed) + (f", ${dollars:.2f}" if dollars else ""),
            f"{one.tokens:.0f}", f"{one.abstained}", f"{one.spread:.2f}",
            "-" if np.isnan(one.agreement) else f"{one.agreement:.0%}",
            f"{one.right} of {one.known}" if one.known else "-",
        )  # fmt: skip
    console.print(table)
    for one in trials:
        for line in one.odd:
            say(f"{one.name}: {line}")
    for missing in failed:
        say(f"{missing.name} could not be asked: {missing.why}")


def _dollars(trial: Trial, prices: dict[str, float]) -> float:
    """What a thousand texts cost by the panel file's price."""
    return trial.tokens * THOUSAND / 1e6 * prices[trial.name]


def _lasts(seconds: float) -> str:
    return (
        f"{seconds:.0f} s"
        if seconds < 90
        else f"{seconds / 60:.0f} min"
        if seconds < 5400
        else f"{seconds / 3600:.1f} h"
    )
